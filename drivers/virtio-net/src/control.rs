use core::time::Duration;

use basalt_env::{Device, DmaBuf, DmaPool, Instant};
use basalt_virtio::{Direction, Doorbell, Payload, Requests, Transport, TransportError};

use crate::layout::control;

/// Entries of the queue: one command at a time, of two descriptors.
const QUEUE_SIZE: u16 = 2;
/// How long a device may take for a command. Software answers at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// The same in looks, for a clock that stands still.
const ANSWER_LOOKS_MAX: u32 = 1 << 22;

/// Commands have no data besides what is in their header.
struct NoData;

impl Payload for NoData {
    fn buffers(&self) -> &[DmaBuf] {
        &[]
    }
}

/// The queue of commands (virtio 1.2 §5.1.6.5).
pub(crate) struct Control<D: Device> {
    queue: Requests<NoData>,
    doorbell: Doorbell<D::Registers>,
}

impl<D: Device> Control<D> {
    /// Sets up queue `index` for commands.
    pub(crate) fn set_up(
        transport: &mut Transport<D>,
        pool: &DmaPool,
        index: u16,
    ) -> Result<Self, TransportError> {
        let size = transport.queue_size(index)?.min(QUEUE_SIZE);
        let queue = Requests::new(pool, size, control::FORMAT)?;
        let doorbell = transport.enable_queue(index, queue.address())?;
        Ok(Self { queue, doorbell })
    }

    /// Has the device, which is at work, use that many pairs of queues; whether it does.
    pub(crate) fn set_pairs(&mut self, pairs: u16, clock: &dyn Fn() -> Instant) -> bool {
        let [low, high] = pairs.to_le_bytes();
        let command = [control::MQ, control::MQ_PAIRS_SET, low, high];
        if self.queue.push(NoData, &command, Direction::ToDevice).is_err() {
            return false;
        }
        let start = clock();
        let mut answer = [!control::OK];
        for _ in 0..ANSWER_LOOKS_MAX {
            if self.queue.commit() {
                self.doorbell.ring();
            }
            match self.queue.pop(&mut answer) {
                // What a device has not written says nothing.
                Ok(Some(done)) => return done.written > 0 && answer == [control::OK],
                Ok(None) if clock().since(start) < ANSWER_TIME_MAX => core::hint::spin_loop(),
                _ => return false,
            }
        }
        false
    }
}
