//! Bdevs over files and block devices of a host: SPDK's `bdev_aio` and `bdev_uring`. Only a hosted
//! environment has such files; on bare metal the methods say so.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use basalt_bdev::uuid::Uuid;
use basalt_bdev::{Bdev, Registry};
use serde_json::Value;

use super::bdev::{delete, no_such_device, read_uuid, remember, resize_error};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// Which of SPDK's modules a bdev is to pass for. They differ in names only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileModule {
    /// `bdev_aio`.
    Aio,
    /// `bdev_uring`.
    Uring,
}

impl FileModule {
    /// What its bdevs are, as SPDK prints it.
    pub const fn product_name(self) -> &'static str {
        match self {
            Self::Aio => "AIO disk",
            Self::Uring => "URING bdev",
        }
    }
}

/// What a bdev over a file is to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileOptions {
    /// As which module's.
    pub module: FileModule,
    /// Its name.
    pub name: String,
    /// The file's path on the host.
    pub filename: String,
    /// Bytes per block, a power of two from 512; the file's own if not given.
    pub block_size: Option<u32>,
    /// Whether it refuses writes.
    pub readonly: bool,
    /// Its UUID; made up if not given.
    pub uuid: Option<Uuid>,
}

type Create = Box<dyn Fn(FileOptions) -> Result<Arc<dyn Bdev>, RpcError>>;

type Measure = Box<dyn Fn(&str) -> Result<u64, RpcError>>;

/// How the methods reach the host's files: a service of the boot core.
pub struct FileControl {
    create: Create,
    measure: Measure,
}

impl FileControl {
    /// A control that makes and registers bdevs by `create`, and tells by `measure` how many bytes
    /// the file of a name is now.
    pub fn new(
        create: impl Fn(FileOptions) -> Result<Arc<dyn Bdev>, RpcError> + 'static,
        measure: impl Fn(&str) -> Result<u64, RpcError> + 'static,
    ) -> Self {
        Self { create: Box::new(create), measure: Box::new(measure) }
    }
}

impl fmt::Debug for FileControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileControl").finish_non_exhaustive()
    }
}

pub(super) fn register(router: &mut Router) {
    router.register("bdev_aio_create", When::Runtime, aio_create);
    router.register("bdev_aio_delete", When::Runtime, |cx, params| {
        delete(&cx, params, FileModule::Aio.product_name())
    });
    router.register("bdev_uring_create", When::Runtime, uring_create);
    router.register("bdev_aio_rescan", When::Runtime, |cx, params| {
        rescan(&cx, params, FileModule::Aio)
    });
    router.register("bdev_uring_rescan", When::Runtime, |cx, params| {
        rescan(&cx, params, FileModule::Uring)
    });
    router.register("bdev_uring_delete", When::Runtime, |cx, params| {
        delete(&cx, params, FileModule::Uring.product_name())
    });
}

fn aio_create(cx: Context, mut params: Params) -> Outcome {
    let readonly = params.optional("readonly")?.unwrap_or(false);
    // Both are about how Linux is called, which is done here as suits it best.
    params.ignore(&["fallocate", "nowait"]);
    create(&cx, params, FileModule::Aio, readonly)
}

fn uring_create(cx: Context, params: Params) -> Outcome {
    create(&cx, params, FileModule::Uring, false)
}

fn create(cx: &Context, mut params: Params, module: FileModule, readonly: bool) -> Outcome {
    let options = FileOptions {
        module,
        name: params.required("name")?,
        filename: params.required("filename")?,
        // The client sends 0 for "the file's own".
        block_size: params.optional("block_size")?.filter(|size| *size != 0),
        readonly,
        uuid: read_uuid(&mut params)?,
    };
    params.finish()?;
    let Ok(control) = cx.service::<FileControl>() else {
        let message = format_args!(
            "'{}': there are no files here, as there is no operating system below; serve a drive, \
             or run the hosted program",
            options.filename
        );
        return Err(RpcError::errno(errno::EOPNOTSUPP, message));
    };
    let bdev = (control.create)(options)?;
    Ok(remember(cx, &*bdev))
}

/// The bdev becomes as large as its file is by now, a rest that is no whole block left out.
fn rescan(cx: &Context, mut params: Params, module: FileModule) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    let is_its = |bdev: &Arc<dyn Bdev>| bdev.info().product_name == module.product_name();
    let bdev = registry.get(&name).filter(is_its).ok_or_else(|| no_such_device(&name))?;
    let info = bdev.info();
    let kept = cx.kept("bdev", &info.name);
    let filename = kept.get("filename").and_then(Value::as_str).unwrap_or_default();
    let control = cx.service::<FileControl>()?;
    let bytes = (control.measure)(filename)?;
    let resized = registry.resize(&info.name, bytes / u64::from(info.block_size));
    resized.map_err(|error| resize_error(&name, error))?;
    Ok(Value::Bool(true))
}
