use core::fmt;
use core::time::Duration;

use basalt_env::{
    BarError, CoreId, Device, DmaPool, Instant, OutOfDmaMemory, PciAddress, PhysAddr, Registers,
    WakeMessage,
};
use basalt_pci::{capabilities, id};

use crate::layout::{Status, common, feature, structure};
use crate::{Queue, RingAddress};

/// How long a device may take to reset. Software answers at once; hardware devices reboot.
const RESET_TIME_MAX: Duration = Duration::from_secs(1);
/// The same in status reads, for a clock that stands still.
const RESET_READS_MAX: u32 = 1 << 22;
/// How often a configuration that keeps changing is read again.
const CONFIG_READS_MAX: u8 = 16;

/// Why a device could not be brought up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportError {
    /// A register block could not be mapped.
    Bar(BarError),
    /// There is no usable capability for a structure (virtio 1.2 §4.1.4) of this type.
    MissingStructure(u8),
    /// It did not finish a reset within a second.
    ResetTimeout,
    /// It only speaks the interface from before virtio 1.0.
    Legacy,
    /// It does not accept a subset of the features it offered.
    FeaturesRefused,
    /// It has no queue of this index.
    MissingQueue(u16),
    /// A queue of this index is in use although the device was reset.
    QueueBusy(u16),
    /// A queue's notifications would go outside the notification registers.
    NotifyOffset(u16),
    /// Its configuration changes faster than it can be read.
    ConfigUnstable,
    /// Its configuration is smaller than its features require.
    ConfigTooSmall,
    /// No memory for a queue or its buffers.
    OutOfDmaMemory(OutOfDmaMemory),
}

impl From<OutOfDmaMemory> for TransportError {
    fn from(error: OutOfDmaMemory) -> Self {
        Self::OutOfDmaMemory(error)
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bar(error) => write!(f, "virtio registers: {error}"),
            Self::MissingStructure(kind) => {
                write!(f, "no usable virtio capability of type {kind}")
            }
            Self::ResetTimeout => f.write_str("the device does not finish its reset"),
            Self::Legacy => f.write_str("the device only speaks virtio from before 1.0"),
            Self::FeaturesRefused => f.write_str("the device refuses the features it offered"),
            Self::MissingQueue(index) => write!(f, "the device has no queue {index}"),
            Self::QueueBusy(index) => write!(f, "queue {index} is in use after a reset"),
            Self::NotifyOffset(index) => {
                write!(f, "queue {index} is notified outside the device's registers")
            }
            Self::ConfigUnstable => f.write_str("the device's configuration never settles"),
            Self::ConfigTooSmall => f.write_str("the device's configuration is cut short"),
            Self::OutOfDmaMemory(error) => error.fmt(f),
        }
    }
}

/// A virtio device on PCI, by its registers (virtio 1.2 §4.1).
///
/// Life cycle: [`Self::open`] maps -> [`Self::reset`] -> [`Self::negotiate`] ->
/// [`Self::set_up_queue`] for each queue -> [`Self::start`] -> dropped, which resets the device and
/// takes its access to memory away. A driver declares it before its queues, so that it is dropped
/// before the memory they hold.
pub struct Transport<D: Device> {
    device: D,
    common: D::Registers,
    notify: D::Registers,
    notify_multiplier: u32,
    config: Option<D::Registers>,
}

impl<D: Device> Transport<D> {
    /// Finds and maps the device's registers. The device is not touched yet.
    pub fn open(mut device: D) -> Result<Self, TransportError> {
        let (common, _) = find(&mut device, structure::COMMON, common::LEN)?;
        let (notify, at) = find(&mut device, structure::NOTIFY, 2)?;
        let notify_multiplier = device.config_read(at + 16);
        let config = find(&mut device, structure::DEVICE, 1).ok().map(|(window, _)| window);
        Ok(Self { device, common, notify, notify_multiplier, config })
    }

    /// Where the device sits.
    pub fn address(&self) -> PciAddress {
        self.device.address()
    }

    /// Turns the device on and resets it; `clock` bounds the wait.
    pub fn reset(&mut self, clock: &dyn Fn() -> Instant) -> Result<(), TransportError> {
        self.device.enable();
        self.common.write8(common::STATUS, 0);
        let start = clock();
        for _ in 0..RESET_READS_MAX {
            if self.common.read8(common::STATUS) == 0 {
                self.add_status(Status::ACKNOWLEDGE);
                self.add_status(Status::DRIVER);
                self.common.write16(common::CONFIG_MSIX_VECTOR, common::NO_VECTOR);
                return Ok(());
            }
            if clock().since(start) >= RESET_TIME_MAX {
                break;
            }
            core::hint::spin_loop();
        }
        Err(TransportError::ResetTimeout)
    }

    /// Agrees on features: what is offered of `wanted`, and what this transport needs. Gives them.
    pub fn negotiate(&mut self, wanted: u64) -> Result<u64, TransportError> {
        let offered = self.offered();
        if offered & feature::VERSION_1 == 0 {
            return Err(TransportError::Legacy);
        }
        let own = feature::VERSION_1 | feature::ACCESS_PLATFORM | feature::ORDER_PLATFORM;
        let agreed = offered & (wanted | own);
        for (half, bits) in [(0, agreed as u32), (1, (agreed >> 32) as u32)] {
            self.common.write32(common::DRIVER_FEATURE_SELECT, half);
            self.common.write32(common::DRIVER_FEATURE, bits);
        }
        self.add_status(Status::FEATURES_OK);
        if !self.status().contains(Status::FEATURES_OK) {
            self.add_status(Status::FAILED);
            return Err(TransportError::FeaturesRefused);
        }
        Ok(agreed)
    }

    /// Has message `index` of the device end the rest of `core`; whether it can.
    pub fn wake(&mut self, index: u16, core: CoreId) -> bool {
        let message = self.device.wake_message(index, core);
        // The queues' own flags hold it back.
        message.inspect(WakeMessage::allow).is_some()
    }

    /// Has queue `index`, which is set up, send message `vector`; whether the device does.
    pub fn set_queue_vector(&mut self, index: u16, vector: u16) -> bool {
        self.common.write16(common::QUEUE_SELECT, index);
        self.common.write16(common::QUEUE_MSIX_VECTOR, vector);
        self.common.read16(common::QUEUE_MSIX_VECTOR) == vector
    }

    /// Sets up queue `index` with at most `size_max` entries.
    pub fn set_up_queue(
        &mut self,
        pool: &DmaPool,
        index: u16,
        size_max: u16,
    ) -> Result<(Queue, Doorbell<D::Registers>), TransportError> {
        let queue = Queue::new(pool, self.queue_size(index)?.min(size_max))?;
        let doorbell = self.enable_queue(index, queue.address())?;
        Ok((queue, doorbell))
    }

    /// How many entries queue `index` can have.
    pub fn queue_size(&self, index: u16) -> Result<u16, TransportError> {
        self.common.write16(common::QUEUE_SELECT, index);
        match self.common.read16(common::QUEUE_SIZE) {
            0 => Err(TransportError::MissingQueue(index)),
            size => Ok(size),
        }
    }

    /// Has the device use a queue of no more than [`Self::queue_size`] entries as queue `index`.
    pub fn enable_queue(
        &mut self,
        index: u16,
        address: RingAddress,
    ) -> Result<Doorbell<D::Registers>, TransportError> {
        self.queue_size(index)?;
        if self.common.read16(common::QUEUE_ENABLE) != 0 {
            return Err(TransportError::QueueBusy(index));
        }
        let doorbell = self.doorbell(index)?;
        let [descriptors, available, used] = address.parts;
        self.common.write16(common::QUEUE_SIZE, address.size);
        self.common.write16(common::QUEUE_MSIX_VECTOR, common::NO_VECTOR);
        self.write_address(common::QUEUE_DESCRIPTORS, descriptors);
        self.write_address(common::QUEUE_AVAILABLE, available);
        self.write_address(common::QUEUE_USED, used);
        self.common.write16(common::QUEUE_ENABLE, 1);
        Ok(doorbell)
    }

    /// Lets the device work.
    pub fn start(&mut self) {
        self.add_status(Status::DRIVER_OK);
    }

    /// Whether the device has given up and wants a reset.
    pub fn needs_reset(&self) -> bool {
        self.status().contains(Status::NEEDS_RESET)
    }

    /// Reads the device-specific configuration, of at least `len_min` bytes, with `read`; again
    /// while the device changes it (virtio 1.2 §4.1.4.3.1).
    pub fn read_config<T>(
        &self,
        len_min: usize,
        read: impl Fn(&D::Registers) -> T,
    ) -> Result<T, TransportError> {
        let config =
            self.config.as_ref().ok_or(TransportError::MissingStructure(structure::DEVICE))?;
        if config.len() < len_min {
            return Err(TransportError::ConfigTooSmall);
        }
        for _ in 0..CONFIG_READS_MAX {
            let before = self.common.read8(common::CONFIG_GENERATION);
            let value = read(config);
            if self.common.read8(common::CONFIG_GENERATION) == before {
                return Ok(value);
            }
        }
        Err(TransportError::ConfigUnstable)
    }

    /// The features the device offers.
    pub fn offered(&self) -> u64 {
        let half = |select| {
            self.common.write32(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read32(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn doorbell(&self, queue: u16) -> Result<Doorbell<D::Registers>, TransportError> {
        let units = self.common.read16(common::QUEUE_NOTIFY_OFFSET);
        let offset = u64::from(units) * u64::from(self.notify_multiplier);
        let error = TransportError::NotifyOffset(queue);
        let offset = usize::try_from(offset).map_err(|_| error)?;
        let register = self.notify.window(offset, 2).ok_or(error)?;
        Ok(Doorbell { register, queue })
    }

    /// Addresses are written as halves: wider accesses are not promised to work (§4.1.3.1).
    fn write_address(&self, offset: usize, address: PhysAddr) {
        self.common.write32(offset, address.as_u64() as u32);
        self.common.write32(offset + 4, (address.as_u64() >> 32) as u32);
    }

    fn status(&self) -> Status {
        Status::from_bits_retain(self.common.read8(common::STATUS))
    }

    fn add_status(&self, bits: Status) {
        self.common.write8(common::STATUS, (self.status() | bits).bits());
    }
}

impl<D: Device> Drop for Transport<D> {
    fn drop(&mut self) {
        self.common.write8(common::STATUS, 0);
        self.device.disable();
    }
}

impl<D: Device> fmt::Debug for Transport<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({})", self.address())
    }
}

/// Tells a device that a queue has new buffers.
#[derive(Clone, Debug)]
pub struct Doorbell<R: Registers> {
    register: R,
    queue: u16,
}

impl<R: Registers> Doorbell<R> {
    /// Tells it.
    #[inline]
    pub fn ring(&self) {
        self.register.write16(0, self.queue);
    }
}

/// The first usable structure of type `kind` with at least `len_min` bytes, and where its
/// capability is. The device may describe it several times; unusable ones are passed over.
fn find<D: Device>(
    device: &mut D,
    kind: u8,
    len_min: usize,
) -> Result<(D::Registers, u16), TransportError> {
    let mut error = TransportError::MissingStructure(kind);
    let mut nth = 0;
    while let Some(place) = nth_place(device, kind, nth) {
        nth += 1;
        match device.bar(place.bar) {
            Ok(bar) if place.len >= len_min => {
                if let Some(window) = bar.window(place.offset, place.len) {
                    return Ok((window, place.at));
                }
            }
            Ok(_) => {}
            Err(bar) => error = TransportError::Bar(bar),
        }
    }
    Err(error)
}

/// Where a virtio capability says a structure is (§4.1.4).
struct Place {
    at: u16,
    bar: u8,
    offset: usize,
    len: usize,
}

/// The `nth` capability for `kind`.
fn nth_place<D: Device>(device: &D, kind: u8, nth: usize) -> Option<Place> {
    let read = |offset| device.config_read(offset);
    let at = capabilities(read)
        .filter(|capability| capability.id == id::VENDOR)
        // Its longest form is 20 bytes, and configuration space ends at 256 for this list.
        .filter(|capability| capability.offset <= 256 - 20)
        .map(|capability| capability.offset)
        .filter(|&at| read(at).to_le_bytes()[3] == kind)
        .nth(nth)?;
    let [bar, ..] = read(at + 4).to_le_bytes();
    Some(Place { at, bar, offset: read(at + 8) as usize, len: read(at + 12) as usize })
}
