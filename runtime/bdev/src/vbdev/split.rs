//! A bdev cut into parts of equal size (SPDK's `bdev_split`).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::Recipe;
use super::base::Base;
use super::part::Part;
use crate::{Bdev, BdevInfo, CreateError, Registry};

/// The module's product name, as SPDK prints it.
pub const PRODUCT_NAME: &str = "Split Disk";

/// Into what a bdev is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SplitOptions {
    /// Parts, at least 1.
    pub count: u32,
    /// MiB of each part; 0 for as much as fits.
    pub size_mib: u64,
}

/// Parts of the bdev called `base`, called `<base>p0`, `<base>p1`, …
pub fn recipe(base: &str, options: SplitOptions) -> Recipe {
    let below = String::from(base);
    Recipe {
        name: below.clone(),
        product_name: PRODUCT_NAME,
        survives: None,
        handle: None,
        bases: vec![below.clone()],
        make: Box::new(move |registry| cut(registry, &below, options)),
    }
}

fn cut(
    registry: &Registry,
    name: &str,
    options: SplitOptions,
) -> Result<Vec<Arc<dyn Bdev>>, CreateError> {
    let base = Arc::new(Base::claim(registry, name)?);
    let info = base.descriptor.info();
    let (count, per_part) = parts(info, options)?;
    // A part that ends inside a stripe of the base would begin the next one there.
    let aligned = per_part.is_multiple_of(u64::from(info.optimal_io_boundary.max(1)));
    let part = |index: u32| -> Arc<dyn Bdev> {
        let name = format!("{}p{index}", info.name);
        let mut part = base.same_shape(&name, PRODUCT_NAME, None);
        part.num_blocks = per_part.into();
        part.optimal_io_boundary = if aligned { info.optimal_io_boundary } else { 0 };
        let (offset, name) = (u64::from(index) * per_part, base.name_json());
        let json = format!("{{\"split\":{{\"base_bdev\":{name},\"offset_blocks\":{offset}}}}}");
        Arc::new(Part { info: part, base: Arc::clone(&base), offset, json })
    };
    Ok((0..count).map(part).collect())
}

/// How many parts there is room for, and how many blocks each has.
fn parts(info: &BdevInfo, options: SplitOptions) -> Result<(u32, u64), CreateError> {
    let SplitOptions { count, size_mib } = options;
    let all = info.num_blocks.get();
    let per_part = match size_mib {
        0 => all / u64::from(count.max(1)),
        _ => size_mib.saturating_mul((1 << 20) / u64::from(info.block_size)),
    };
    let room = all.checked_div(per_part).unwrap_or(0).min(u64::from(count)) as u32;
    if room == 0 {
        return Err(CreateError::NoBlocks);
    }
    if room < count {
        let name = &info.name;
        log::warn!(target: "bdev", "{name}: there is room for {room} of {count} parts only");
    }
    Ok((room, per_part))
}
