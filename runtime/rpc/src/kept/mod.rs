//! The configuration that the machine itself has saved, in a partition of a drive of its own.
//!
//! ```text
//!   framework_save_config --[store]--> partition --[next start: choose]--> Config
//! ```
//!
//! Such a partition is a bdev of its own kind ([`CONFIG_PRODUCT_NAME`]), which the [`Keeper`] holds
//! claimed from the start, so that nobody else writes it. How it is laid out, and why a crash
//! leaves the old configuration or the new one, is said in [`slot`].
//!
//! Which one counts, the one that was handed over or the one that was saved, is decided by which
//! of them was changed last: what is saved comes with a [`Mark`] of what was handed over by then,
//! and counts until something else is handed over.

pub mod slot;
#[cfg(test)]
mod tests;
mod volume;

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::{Cell, RefCell};
use core::pin::Pin;

use basalt_bdev::uuid::{self, Uuid};
use basalt_bdev::vbdev::gpt::{CONFIG_KIND, CONFIG_PRODUCT_NAME};
use basalt_bdev::{Access, Bdev, Descriptor, Event, OpenError, Registry};
use basalt_reactor::Local;

use self::slot::{Header, Mark};
use self::volume::{Failure, Stored, Volume};
use crate::{Config, RpcError, errno};

/// Keeps the configuration: a service of the boot core.
pub struct Keeper {
    local: Local,
    /// Of the configuration that was handed over.
    handed_over: Mark,
    /// The partition that is used: its UUID, which stays when its drive gets another name.
    partition: Cell<Option<Uuid>>,
    /// The claim on it, while it is there.
    held: RefCell<Option<Descriptor>>,
    is_saving: Cell<bool>,
}

/// The configuration that is to be in force, on its way.
pub type Choosing = Pin<Box<dyn Future<Output = Config>>>;

/// What is saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    /// The partition's bdev.
    pub(crate) bdev_name: String,
    /// How many saves there have been.
    pub(crate) generation: u64,
    /// Length of the text; 0 if none is saved.
    pub(crate) bytes: u32,
    /// Most that there is room for.
    pub(crate) bytes_max: usize,
}

/// A partition that a configuration may be in, and what was found there.
struct Found {
    name: String,
    uuid: Uuid,
    read: Result<Option<Stored>, Failure>,
}

impl Found {
    fn generation(&self) -> u64 {
        let stored = self.read.as_ref().ok().and_then(Option::as_ref);
        stored.map_or(0, |stored| stored.header.generation)
    }
}

impl Keeper {
    /// Looks for what was saved in the partitions that are there, and says which configuration is
    /// to be in force. To be called once on the boot core, before anything is configured: what is
    /// found then is found again at the next start. Boxed, to be compiled with this crate.
    pub fn start(local: &Local, handed_over: Config) -> Choosing {
        let local = local.clone();
        Box::pin(async move {
            let keeper = Rc::new(Self {
                local: local.clone(),
                handed_over: Mark::of(handed_over.text()),
                partition: Cell::new(None),
                held: RefCell::new(None),
                is_saving: Cell::new(false),
            });
            local.provide(Rc::clone(&keeper));
            let Some(found) = find(&local).await else { return handed_over };
            keeper.partition.set(Some(found.uuid));
            keeper.hold();
            choose(found, handed_over, keeper.handed_over)
        })
    }

    /// Has the partition claimed whenever it is there.
    fn hold(self: &Rc<Self>) {
        let Some(registry) = self.local.service::<Registry>() else { return };
        let _ = self.disk();
        let keeper = Rc::downgrade(self);
        registry.subscribe(move |event| {
            let Some(keeper) = keeper.upgrade() else { return };
            match event {
                Event::Registered(bdev) if keeper.is_mine(&**bdev) => drop(keeper.disk()),
                Event::Removed(bdev) if keeper.is_mine(&**bdev) => drop(keeper.held.take()),
                _ => {}
            }
        });
    }

    fn is_mine(&self, bdev: &dyn Bdev) -> bool {
        self.partition.get() == Some(bdev.info().uuid)
    }

    /// The partition, claimed.
    fn disk(&self) -> Result<Descriptor, RpcError> {
        let Some(uuid) = self.partition.get() else { return Err(no_partition()) };
        if let Some(disk) = &*self.held.borrow() {
            return Ok(disk.clone());
        }
        let registry = self.local.service::<Registry>().ok_or_else(no_partition)?;
        let uuid = uuid::format(&uuid);
        let disk = registry.open(&uuid, Access::Exclusive).map_err(|error| {
            let (code, remedy) = match error {
                OpenError::NoSuchBdev | OpenError::Removed => {
                    (errno::ENODEV, "put its drive back in")
                }
                _ => (errno::EBUSY, "take it from those who write it, such as a subsystem"),
            };
            let what = "the partition that the configuration is kept in";
            RpcError::errno(code, format_args!("{what}, {uuid}: {error}: {remedy}"))
        })?;
        self.held.replace(Some(disk.clone()));
        Ok(disk)
    }

    fn volume(&self) -> Result<Volume, RpcError> {
        let disk = self.disk()?;
        let name = disk.info().name.clone();
        Volume::open(&self.local, disk).map_err(|failure| failed(&name, failure))
    }

    /// Most bytes that can be saved.
    pub(crate) fn bytes_max(&self) -> Result<usize, RpcError> {
        Ok(self.volume()?.layout.text_len_max())
    }

    /// Saves a text, of which one without length drops what is saved; what is saved then. Without a
    /// text, what is saved now. One at a time.
    pub(crate) async fn save(&self, text: Option<&[u8]>) -> Result<Kept, RpcError> {
        if self.is_saving.replace(true) {
            let message = "another save is under way: try again once it is over";
            return Err(RpcError::errno(errno::EBUSY, message));
        }
        let _saving = Saving(&self.is_saving);
        let volume = self.volume()?;
        let saved = match text {
            Some(text) => volume.save(text, self.handed_over).await.map(Some),
            None => volume.load().await.map(|stored| stored.map(|stored| stored.header)),
        };
        let header = saved.map_err(|failure| failed(volume.name(), failure))?;
        let (generation, bytes) =
            header.map_or((0, 0), |header| (header.generation, header.text.len));
        let bdev_name = String::from(volume.name());
        if text.is_some() {
            log::info!(
                target: "rpc",
                "{bdev_name}: the configuration was saved, {bytes} bytes, generation {generation}"
            );
        }
        Ok(Kept { bdev_name, generation, bytes, bytes_max: volume.layout.text_len_max() })
    }
}

/// The end of a save, however it ends.
struct Saving<'a>(&'a Cell<bool>);

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The partition that is used: the one that was saved to last, as far as that can be read.
async fn find(local: &Local) -> Option<Found> {
    let registry = local.service::<Registry>()?;
    let mut best: Option<Found> = None;
    for bdev in registry.list() {
        let info = bdev.info();
        if info.product_name != CONFIG_PRODUCT_NAME {
            continue;
        }
        let disk = registry.open(&info.name, Access::ReadOnly).map_err(Failure::NotOpen);
        let read = match disk.and_then(|disk| Volume::open(local, disk)) {
            Ok(volume) => volume.load().await,
            Err(failure) => Err(failure),
        };
        let found = Found { name: info.name.clone(), uuid: info.uuid, read };
        best = Some(match best.take() {
            Some(other) => better(other, found),
            None => found,
        });
    }
    best
}

/// Which of two partitions is used.
fn better(one: Found, other: Found) -> Found {
    let is_other = other.generation() > one.generation()
        || matches!((&one.read, &other.read), (Ok(None), Err(_)));
    let (used, unused) = if is_other { (other, one) } else { (one, other) };
    let (used_name, unused_name) = (&used.name, &unused.name);
    log::warn!(target: "rpc", "{used_name} keeps the configuration, and {unused_name} does not");
    used
}

/// The configuration that is to be in force.
fn choose(found: Found, handed_over: Config, mark: Mark) -> Config {
    let Found { name, read, .. } = found;
    let Stored { header, text, .. } = match read {
        Ok(Some(saved)) => saved,
        Ok(None) => return handed_over,
        Err(failure) => {
            let message = format!("the configuration saved in {name} cannot be read: {failure}");
            log::error!(target: "rpc", "{message}");
            // What was to be exported is not known.
            return match mark.len {
                0 => Config::unreadable(message),
                _ => handed_over.whole(),
            };
        }
    };
    let Header { generation, text: saved, handed_over: before } = header;
    if saved.len == 0 {
        return handed_over;
    }
    if mark.len > 0 && mark != before {
        log::warn!(
            target: "rpc",
            "the configuration that was handed over has changed since another was saved in {name}, \
             so it counts; framework_save_config saves what is in force"
        );
        return handed_over;
    }
    log::info!(
        target: "rpc",
        "the configuration saved in {name} counts ({} bytes, generation {generation})", saved.len
    );
    Config::parse(&text).whole()
}

fn no_partition() -> RpcError {
    let kind = uuid::format(&CONFIG_KIND);
    let message = format_args!(
        "no drive of this machine had a partition for its configuration when it started: make one \
         of 1 MiB with the GPT type {kind} on an NVMe drive, and start again"
    );
    RpcError::errno(errno::ENODEV, message)
}

fn failed(name: &str, failure: Failure) -> RpcError {
    let code = match failure {
        Failure::NotOpen(_) | Failure::Io(_) | Failure::Damaged => errno::EIO,
        Failure::NoMemory => errno::ENOMEM,
        Failure::TooSmall => errno::ENOSPC,
    };
    RpcError::errno(code, format_args!("{name}: {failure}"))
}
