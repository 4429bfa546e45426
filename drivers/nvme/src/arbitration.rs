//! How the controller is to choose among its queues (base specification 2.0 §3.4.4).

use basalt_env::Device;
use basalt_nvme_spec::{Arbitration, Cc, Command, FeatureId};

use crate::discover::failed;
use crate::{AdminError, Controller, InitError, QueueAddress};

/// How a controller is to choose the queue that it takes commands from next. One that knows no
/// weights keeps to the burst, if one is named, and takes all queues for equals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ArbitrationOptions {
    /// Most commands from a queue at a time, as a power of two: 0 to 6, 7 for no limit. `None` for
    /// what the controller recommends.
    pub burst: Option<u8>,
    /// Commands of all low priority queues in a round, less one.
    pub low_weight: u8,
    /// Commands of all medium priority queues in a round, less one.
    pub medium_weight: u8,
    /// Commands of all high priority queues in a round, less one.
    pub high_weight: u8,
}

impl<D: Device> Controller<D> {
    /// Whether queues have priorities.
    pub fn has_priorities(&self) -> bool {
        self.options.arbitration.is_some() && self.cap.weighted_round_robin()
    }

    /// What the controller is enabled with.
    pub(crate) fn enabled(&self) -> Cc {
        let ams = if self.has_priorities() { Cc::AMS_WEIGHTED } else { Cc::AMS_ROUND_ROBIN };
        Cc::enabled(self.command_set()).with_arbitration(ams)
    }

    /// Tells it burst and weights, if there are any to tell.
    pub(crate) async fn set_arbitration(&self) -> Result<(), InitError> {
        let Some(options) = self.options.arbitration else { return Ok(()) };
        let recommended = self.identify.borrow().rab;
        let burst = match options.burst {
            None if !self.has_priorities() => return Ok(()),
            burst => burst.unwrap_or(recommended).min(Arbitration::BURST_UNLIMITED),
        };
        let weight = |weight| if self.has_priorities() { weight } else { 0 };
        let [low, medium, high] =
            [options.low_weight, options.medium_weight, options.high_weight].map(weight);
        let value = Arbitration { burst, low, medium, high }.to_dword();
        let command = Command::set_features(FeatureId::ARBITRATION, value);
        match self.command(command, None).await {
            Ok(_) => Ok(()),
            // It can do without.
            Err(AdminError::Status(status)) => {
                log::warn!("nvme {}: arbitration: {status}", self.address);
                Ok(())
            }
            Err(error) => Err(failed(command)(error)),
        }
    }

    /// The command that makes a queue's submission ring known.
    pub(crate) fn create_sq(&self, queue: &QueueAddress) -> Command {
        let QueueAddress { qid, entries, sq, priority, .. } = *queue;
        let create = Command::create_io_sq(qid, entries, sq, qid);
        if self.has_priorities() { create.with_priority(priority) } else { create }
    }
}
