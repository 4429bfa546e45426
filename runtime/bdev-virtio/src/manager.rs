use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_bdev::{Lenders, RegisterError, Registry};
use basalt_env::{CoreId, Device, DmaPool, Registers};
use basalt_reactor::Local;
use basalt_virtio::{Direction, Doorbell, Queue, RequestFormat, Requests, RingAddress, Transport};
use basalt_virtio_blk::Disk;
use basalt_virtio_scsi::{EVENT_LEN, Event, Host};

use crate::AttachError;
use crate::bdev::{Label, VirtioBdev};
use crate::controllers::{ControllerId, Handle, Request, VirtioControllers};
use crate::job::Job;
use crate::path::IoPath;
use crate::queue::{CoreQueue, CoreQueues};
use crate::unit::Unit;

/// How long another core may take to do as told.
const CORE_PATIENCE: Duration = Duration::from_secs(5);
/// How often the device is asked what has changed.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// How long a detach waits for what is in flight, and how often it looks.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);
const DRAIN_PERIOD: Duration = Duration::from_millis(1);
/// Most descriptors of a queue of requests.
const QUEUE_SIZE: u16 = 256;
/// Fewest: a request with one segment of data.
const QUEUE_SIZE_MIN: u16 = 4;
/// Entries of the queues that are not for requests.
const SIDE_QUEUE_SIZE: u16 = 16;

/// What the device is.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Blk(Disk),
    Scsi(Host),
}

impl Shape {
    fn format(&self) -> RequestFormat {
        match self {
            Self::Blk(_) => basalt_virtio_blk::FORMAT,
            Self::Scsi(_) => basalt_virtio_scsi::FORMAT,
        }
    }

    /// The first queue of requests, and how many there are.
    fn queues(&self) -> (u16, u16) {
        match self {
            Self::Blk(disk) => (basalt_virtio_blk::FIRST_QUEUE, disk.queues),
            Self::Scsi(host) => (basalt_virtio_scsi::FIRST_QUEUE, host.queues),
        }
    }
}

/// A disk that is a bdev.
pub(crate) struct Shown {
    pub(crate) name: String,
    /// Of a SCSI host.
    pub(crate) target: Option<u8>,
    pub(crate) unit: Unit,
}

/// Sees to one device, from core 0, for as long as it is attached.
pub(crate) struct Manager<D: Device> {
    pub(crate) local: Local,
    pub(crate) registry: Rc<Registry>,
    handle: Rc<Handle>,
    /// None once it was stopped. Before its queues, to be dropped first.
    transport: RefCell<Option<Transport<D>>>,
    /// What a SCSI host is told by, and tells.
    sides: RefCell<Option<Sides<D::Registers>>>,
    pub(crate) shape: Shape,
    path: IoPath<D::Registers>,
    pub(crate) shown: RefCell<Vec<Shown>>,
    lenders: Arc<Lenders>,
}

struct Sides<R: Registers> {
    _control: Queue,
    events: Queue,
    doorbell: Doorbell<R>,
}

impl<D: Device + 'static> Manager<D>
where
    D::Registers: Send,
{
    pub(crate) fn new(
        local: Local,
        registry: Rc<Registry>,
        handle: Rc<Handle>,
        transport: Transport<D>,
        (shape, path): (Shape, IoPath<D::Registers>),
    ) -> Self {
        let lenders = Arc::new(Lenders::new(local.cores()));
        let (transport, sides) = (RefCell::new(Some(transport)), RefCell::new(None));
        let shown = RefCell::default();
        Self { local, registry, handle, transport, sides, shape, path, shown, lenders }
    }

    /// Gives the cores queues, and lets the device work.
    pub(crate) async fn start(&self, pool: &DmaPool) -> Result<(), AttachError> {
        let (first, count) = self.shape.queues();
        if let Shape::Scsi(_) = self.shape {
            self.make_sides(pool)?;
        }
        let mut made = Vec::new();
        for (core, index) in self.cores().zip(first..first.saturating_add(count)) {
            match self.make_queue(core, index).await? {
                Some(bell) => made.push((core, bell)),
                None => break,
            }
        }
        if made.is_empty() {
            return Err(AttachError::NoQueues);
        }
        self.with_transport(|transport| transport.start())?;
        self.handle.info.borrow_mut().queues = made.iter().map(|(core, _)| *core).collect();
        let (id, path) = (self.handle.id, self.path);
        for (core, (doorbell, wakes)) in made {
            let go_live = move |local: &Local| {
                let queue = CoreQueues::of(local).find(id);
                queue.inspect(|queue| path.go_live(queue, doorbell, wakes)).is_some()
            };
            let is_live = self.on_core(core, go_live).await;
            self.lenders.set(core, is_live == Some(true));
        }
        Ok(())
    }

    /// Queue `index` for `core`: how the device is told of requests, and whether it sends messages.
    /// `None` if the core has no memory for it.
    async fn make_queue(
        &self,
        core: CoreId,
        index: u16,
    ) -> Result<Option<(Doorbell<D::Registers>, bool)>, AttachError> {
        let size = self.with_transport(|transport| transport.queue_size(index))??;
        if size < QUEUE_SIZE_MIN {
            return Err(AttachError::QueueTooSmall(size));
        }
        let (id, size, format) = (self.handle.id, size.min(QUEUE_SIZE), self.shape.format());
        let allocate = move |local: &Local| allocate::<D::Registers>(local, id, size, format);
        let Some(address) = self.on_core(core, allocate).await.flatten() else {
            log::warn!(target: "bdev_virtio", "{}: no queue memory on core {core}", self.name());
            return Ok(None);
        };
        self.handle.info.borrow_mut().queue_size = size;
        self.with_transport(|transport| {
            let doorbell = transport.enable_queue(index, address)?;
            let message = core.0;
            let wakes = transport.wake(message, core) && transport.set_queue_vector(index, message);
            Ok(Some((doorbell, wakes)))
        })?
    }

    fn make_sides(&self, pool: &DmaPool) -> Result<(), AttachError> {
        let sides = self.with_transport(|transport| {
            let control = basalt_virtio_scsi::CONTROL_QUEUE;
            let (control, _) = transport.set_up_queue(pool, control, SIDE_QUEUE_SIZE)?;
            let events = basalt_virtio_scsi::EVENT_QUEUE;
            let (mut events, doorbell) = transport.set_up_queue(pool, events, SIDE_QUEUE_SIZE)?;
            while events.room() > 0 {
                let _ = events.push(pool.alloc(EVENT_LEN)?, Direction::FromDevice);
            }
            Ok::<_, AttachError>(Sides { _control: control, events, doorbell })
        })??;
        *self.sides.borrow_mut() = Some(sides);
        Ok(())
    }

    /// Does what it is asked to until it is asked to let go, or the device fails.
    pub(crate) async fn run(self) {
        self.take_events();
        loop {
            match self.local.timeout(LOOK_PERIOD, self.handle.next()).await {
                Err(_) if self.needs_reset() => {
                    log::error!(target: "bdev_virtio", "{}: it asks for a reset", self.name());
                    return self.give_up().await;
                }
                Err(_) => self.look().await,
                Ok(Request::Fault(fault)) => {
                    log::error!(target: "bdev_virtio", "{}: {fault}", self.name());
                    return self.give_up().await;
                }
                Ok(Request::Detach(answer)) => {
                    self.remove_bdevs(|_| true);
                    self.drain().await;
                    self.stop().await;
                    log::info!(target: "bdev_virtio", "{}: detached", self.name());
                    return answer.send(());
                }
            }
        }
    }

    async fn give_up(&self) {
        log::error!(target: "bdev_virtio", "{}: given up", self.name());
        self.remove_bdevs(|_| true);
        self.stop().await;
    }

    fn needs_reset(&self) -> bool {
        self.with_transport(|transport| transport.needs_reset()).unwrap_or(true)
    }

    /// Looks whether disks have come, gone or changed.
    async fn look(&self) {
        match self.shape {
            Shape::Blk(disk) => {
                let now = self.with_transport(|transport| {
                    basalt_virtio_blk::blocks(transport, disk.block_size)
                });
                let Ok(Ok(blocks)) = now else { return };
                let is_other = |shown: &Shown| shown.unit.blocks() != blocks;
                if self.shown.borrow().iter().any(is_other) {
                    self.set_size(None, Unit::Blk(Disk { blocks, ..disk }));
                }
            }
            Shape::Scsi(_) if self.take_events() => self.look_for_disks().await,
            Shape::Scsi(_) => {}
        }
    }

    /// Whether the host has told of a change.
    fn take_events(&self) -> bool {
        let mut sides = self.sides.borrow_mut();
        let Some(Sides { events, doorbell, .. }) = sides.as_mut() else { return false };
        let mut changed = false;
        while let Ok(Some(used)) = events.pop() {
            changed |= Event::read(&used.buf.as_slice()[..used.written]) == Event::Changed;
            let _ = events.push(used.buf, Direction::FromDevice);
        }
        if events.commit() {
            doorbell.ring();
        }
        changed
    }

    /// A disk has become larger or smaller.
    pub(crate) fn set_size(&self, target: Option<u8>, unit: Unit) {
        let mut all = self.shown.borrow_mut();
        let Some(shown) = all.iter_mut().find(|shown| shown.target == target) else { return };
        shown.unit = unit;
        let name = shown.name.clone();
        drop(all);
        if let Err(error) = self.registry.has_size(&name, unit.blocks()) {
            log::error!(target: "bdev_virtio", "{name}: {error}");
        }
    }

    /// Makes a bdev of a disk.
    pub(crate) fn show(&self, target: Option<u8>, unit: Unit, serial: &str) {
        let name = match target {
            None => String::from(&*self.name()),
            Some(target) => format!("{}t{target}", self.name()),
        };
        let limits = unit.limits();
        if !limits.is_usable() {
            let error = AttachError::SegmentsTooSmall(limits.segment_len_max);
            log::error!(target: "bdev_virtio", "{name}: {error}");
            return;
        }
        let address = self.handle.info.borrow().address;
        let label = Label { name: name.clone(), address, serial, target };
        let make = || VirtioBdev::new(&label, self.handle.id, unit, &self.lenders, self.path);
        let mut registered = self.registry.register(Arc::new(make()));
        if registered == Err(RegisterError::UuidTaken) {
            log::warn!(target: "bdev_virtio", "{name}: its serial number is another disk's");
            let uuid = self.registry.make_uuid(&name);
            registered = self.registry.register(Arc::new(make().with_uuid(uuid)));
        }
        match registered {
            Ok(()) => self.shown.borrow_mut().push(Shown { name, target, unit }),
            Err(error) => log::error!(target: "bdev_virtio", "{name}: {error}"),
        }
        self.handle.info.borrow_mut().bdevs = self.bdevs();
    }

    pub(crate) fn remove_bdevs(&self, goes: impl Fn(&Shown) -> bool) {
        let going: Vec<_> = self.shown.borrow_mut().extract_if(.., |shown| goes(shown)).collect();
        for shown in going {
            // Somebody may have removed it already.
            let _ = self.registry.remove(&shown.name);
        }
        self.handle.info.borrow_mut().bdevs = self.bdevs();
    }

    pub(crate) fn bdevs(&self) -> Vec<String> {
        self.shown.borrow().iter().map(|shown| shown.name.clone()).collect()
    }

    /// Waits until nothing is in flight on any core, but not for long.
    async fn drain(&self) {
        let id = self.handle.id;
        let late = self.local.now() + DRAIN_PATIENCE;
        for core in self.cores() {
            let count = move |local: &Local| {
                let queue = CoreQueues::<D::Registers>::of(local).find(id);
                queue.map_or(0, |queue| queue.outstanding())
            };
            while self.on_core(core, count).await.unwrap_or(0) > 0 && self.local.now() < late {
                self.local.sleep(DRAIN_PERIOD).await;
            }
        }
    }

    /// Stops the device, ends what it has in flight, and forgets it.
    pub(crate) async fn stop(&self) {
        // Resets it and takes its access to memory away.
        self.transport.take();
        self.sides.take();
        let id = self.handle.id;
        for core in self.cores() {
            let close = move |local: &Local| {
                let queues = CoreQueues::<D::Registers>::of(local);
                queues.find(id).inspect(|queue| queue.close());
                queues.remove(id);
            };
            if self.on_core(core, close).await.is_none() {
                log::error!(target: "bdev_virtio", "{}: core {core} does not answer", self.name());
            }
        }
        VirtioControllers::of(&self.local).remove(id);
    }

    pub(crate) fn name(&self) -> String {
        self.handle.info.borrow().name.clone()
    }

    pub(crate) fn id(&self) -> ControllerId {
        self.handle.id
    }

    fn cores(&self) -> impl Iterator<Item = CoreId> + use<D> {
        (0..self.local.cores()).map(|core| CoreId(core as u16))
    }

    fn with_transport<T>(&self, f: impl FnOnce(&mut Transport<D>) -> T) -> Result<T, AttachError> {
        self.transport.borrow_mut().as_mut().map(f).ok_or(AttachError::NoQueues)
    }

    /// Has `core` do `f`. `None` if it does not answer.
    async fn on_core<T: Send + 'static>(
        &self,
        core: CoreId,
        f: impl FnOnce(&Local) -> T + Send + 'static,
    ) -> Option<T> {
        self.local.timeout(CORE_PATIENCE, self.local.call(core, f)).await.ok()?.ok()
    }
}

fn allocate<R: Registers>(
    local: &Local,
    id: ControllerId,
    size: u16,
    format: RequestFormat,
) -> Option<RingAddress> {
    let pool: Rc<DmaPool> = local.service()?;
    let requests = Requests::<Job>::new(&pool, size, format).ok()?;
    let address = requests.address();
    CoreQueues::<R>::of(local).add(CoreQueue::new(id, local, pool, requests, size)?);
    Some(address)
}
