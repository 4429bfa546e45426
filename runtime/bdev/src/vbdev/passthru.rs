//! A bdev that passes everything on as it is (SPDK's `bdev_passthru`): the least a virtual bdev can
//! be.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use basalt_env::Work;
use basalt_reactor::Local;

use super::Recipe;
use super::base::Base;
use crate::json::json_string;
use crate::uuid::Uuid;
use crate::{BaseChannel, Bdev, BdevInfo, Io, IoChannel, Op, OpenError, RejectReason, Zones};

/// The module's product name, as SPDK prints it.
pub const PRODUCT_NAME: &str = "passthru";

/// `name` over the bdev called `base`.
pub fn recipe(name: &str, base: &str, uuid: Option<Uuid>) -> Recipe {
    let (own, below) = (String::from(name), String::from(base));
    Recipe {
        name: own.clone(),
        product_name: PRODUCT_NAME,
        survives: None,
        handle: None,
        bases: vec![below.clone()],
        make: Box::new(move |registry| {
            let base = Base::claim_any(registry, &below)?;
            let info = base.same_shape(&own, PRODUCT_NAME, uuid);
            Ok(vec![Arc::new(Passthru { info, base })])
        }),
    }
}

struct Passthru {
    info: BdevInfo,
    base: Base,
}

impl Bdev for Passthru {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        self.base.descriptor.bdev().supports(op)
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(PassthruChannel { base: self.base.descriptor.base_channel(local)? }))
    }

    fn zones(&self) -> Option<Zones> {
        self.base.descriptor.bdev().zones()
    }

    fn write_unit(&self) -> u32 {
        self.base.descriptor.bdev().write_unit()
    }

    fn compare_and_write_max(&self) -> u32 {
        self.base.descriptor.bdev().compare_and_write_max()
    }

    fn can_abort(&self) -> bool {
        self.base.descriptor.bdev().can_abort()
    }

    fn resized_with_base(&self) -> Option<u64> {
        Some(self.base.descriptor.info().num_blocks.get())
    }

    fn driver_specific(&self) -> String {
        let (name, base) = (json_string(&self.info.name), self.base.name_json());
        format!("{{\"passthru\":{{\"name\":{name},\"base_bdev_name\":{base}}}}}")
    }
}

struct PassthruChannel {
    base: BaseChannel,
}

impl IoChannel for PassthruChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.base.submit(io)
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.base.poll(done)
    }

    fn abort(&mut self, tag: u64) -> bool {
        self.base.abort(tag)
    }
}
