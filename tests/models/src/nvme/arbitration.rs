//! Which queue commands are taken from next (base specification 2.0 §3.4.4).

use basalt_nvme_spec::{Arbitration, Cc, FeatureId, QueueId, QueuePriority};

use super::state::State;

/// How many of the last commands are remembered by their queue.
const ORDER_MAX: usize = 4096;

/// Queues among which commands are taken in turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Admin,
    /// Of one priority, where weights decide.
    Io(QueuePriority),
    /// All I/O queues, where they do not.
    AnyIo,
}

/// The classes with weights, in the order of a round.
const WEIGHTED: [QueuePriority; 3] =
    [QueuePriority::High, QueuePriority::Medium, QueuePriority::Low];

impl State {
    /// Takes and carries out commands while there are any.
    pub(super) fn serve(&mut self) {
        let value = self.features.get(&FeatureId::ARBITRATION.0).copied().unwrap_or(0);
        let arbitration = Arbitration::from_dword(value);
        loop {
            self.serve_strictly(arbitration);
            let mut taken = 0;
            if self.cc.arbitration() == Cc::AMS_WEIGHTED {
                for priority in WEIGHTED {
                    let weight = arbitration.weight(priority).unwrap_or(0);
                    taken += self.serve_class(Class::Io(priority), weight, arbitration);
                }
            } else {
                taken += self.serve_class(Class::AnyIo, u32::MAX, arbitration);
            }
            if taken == 0 {
                return;
            }
        }
    }

    /// What comes before everything else: admin commands, then urgent ones.
    fn serve_strictly(&mut self, arbitration: Arbitration) {
        let urgent = Class::Io(QueuePriority::Urgent);
        while self.take_burst(Class::Admin, u32::MAX, arbitration) > 0
            || self.take_burst(urgent, u32::MAX, arbitration) > 0
        {}
    }

    /// Up to `most` commands of a class, in bursts; how many there were.
    fn serve_class(&mut self, class: Class, most: u32, arbitration: Arbitration) -> u32 {
        let mut taken = 0;
        while taken < most {
            self.serve_strictly(arbitration);
            match self.take_burst(class, most - taken, arbitration) {
                0 => break,
                burst => taken += burst,
            }
        }
        taken
    }

    /// Up to `most` commands of the next queue of a class that has some; how many there were.
    fn take_burst(&mut self, class: Class, most: u32, arbitration: Arbitration) -> u32 {
        let most = most.min(arbitration.burst_commands().unwrap_or(u32::MAX));
        let Some(qid) = self.next_queue(class).filter(|_| self.runs()) else { return 0 };
        if qid != 0 {
            self.last_served = qid;
        }
        let mut taken = 0;
        while taken < most && self.runs() {
            let Some(command) = self.fetch(qid) else { break };
            self.remember(qid);
            self.execute(qid, &command);
            taken += 1;
        }
        taken
    }

    /// The first queue of a class with commands, beginning after the one that was served last.
    fn next_queue(&self, class: Class) -> Option<QueueId> {
        let after = self.last_served;
        let (behind, before) = (self.sqs.range(after + 1..), self.sqs.range(..=after));
        let mut queues = behind.chain(before).filter(|(_, queue)| !queue.is_empty());
        let found = queues.find(|(qid, queue)| self.class_of(**qid, queue.priority) == class);
        found.map(|(qid, _)| *qid)
    }

    fn class_of(&self, qid: QueueId, priority: QueuePriority) -> Class {
        match qid {
            0 => Class::Admin,
            _ if self.cc.arbitration() == Cc::AMS_WEIGHTED => Class::Io(priority),
            _ => Class::AnyIo,
        }
    }

    fn remember(&mut self, qid: QueueId) {
        if qid == 0 {
            return;
        }
        if self.order.len() == ORDER_MAX {
            self.order.pop_front();
        }
        self.order.push_back(qid);
    }
}
