use basalt_env::Device;
use basalt_models::nvme::{Fault, admin};
use basalt_nvme_spec::{AdminOpcode, Arbitration, FeatureId, QueuePriority};

use super::*;
use crate::ArbitrationOptions;

const WEIGHTS: ArbitrationOptions =
    ArbitrationOptions { burst: Some(0), low_weight: 0, medium_weight: 1, high_weight: 3 };

/// One queue of each priority, from low (1) to urgent (4).
const PRIORITIES: [QueuePriority; 4] =
    [QueuePriority::Low, QueuePriority::Medium, QueuePriority::High, QueuePriority::Urgent];

struct Prioritized {
    bench: Bench,
    controller: Controller<ModelDevice>,
    queues: Vec<Queue>,
}

impl Prioritized {
    fn new(config: Config, arbitration: Option<ArbitrationOptions>) -> Self {
        let bench = Bench::new(config);
        let controller = bench.controller(Options { queues: 4, arbitration, ..Options::default() });
        let mut prioritized = Self { bench, controller, queues: Vec::new() };
        prioritized.make_queues();
        prioritized
    }

    fn make_queues(&mut self) {
        let Self { bench, controller, .. } = self;
        let make = |(priority, qid)| {
            let spec = controller.queue_spec(qid).unwrap().with_priority(priority);
            let queue = IoQueue::allocate(&bench.pool, spec).unwrap();
            bench.run(controller.create_io_queue(queue.address(), None)).unwrap();
            queue
        };
        self.queues = PRIORITIES.into_iter().zip(1..).map(make).collect();
    }

    /// Has so many commands of each queue wait for the controller at once, and gives the queues in
    /// the order in which it took them.
    fn order(&mut self, commands: usize) -> Vec<u16> {
        let (ns, model) = (self.controller.namespaces()[0], &self.bench.model);
        let before = model.order().len();
        model.device().disable();
        for queue in &mut self.queues {
            for _ in 0..commands {
                queue.read(&ns, 0, 1, (0, self.bench.buffers(&[512], 0))).unwrap();
            }
            let _ = queue.commit();
        }
        assert_eq!(model.order().len(), before, "nothing is fetched without bus mastering");
        model.device().enable();
        model.step();
        for queue in &mut self.queues {
            assert_eq!(self.bench.drain(queue).len(), commands);
        }
        let violations = self.bench.model.violations();
        assert!(violations.is_empty(), "{violations:?}");
        self.bench.model.order().split_off(before)
    }

    fn arbitration(&self) -> Option<Arbitration> {
        self.bench.model.feature(FeatureId::ARBITRATION).map(Arbitration::from_dword)
    }
}

fn weighted() -> Config {
    Config { weighted_round_robin: true, ..Config::default() }
}

#[test]
fn urgent_commands_go_first_and_the_others_by_weight() {
    let mut prioritized = Prioritized::new(weighted(), Some(WEIGHTS));
    assert!(prioritized.controller.has_priorities());
    let order = prioritized.order(8);
    assert_eq!(order[..8], [4; 8], "urgent, although it asked last");
    let rounds: &[&[u16]] = &[&[3, 3, 3, 3, 2, 2, 1], &[3, 3, 3, 3, 2, 2, 1]];
    assert_eq!(order[8..22], rounds.concat(), "four of high for two of medium and one of low");
    assert_eq!(order[22..], [2, 2, 1, 2, 2, 1, 1, 1, 1, 1], "until a class has no more");
}

#[test]
fn a_burst_is_taken_from_a_queue_at_a_time() {
    let arbitration = ArbitrationOptions { burst: Some(1), ..ArbitrationOptions::default() };
    let mut prioritized = Prioritized::new(Config::default(), Some(arbitration));
    assert!(!prioritized.controller.has_priorities(), "the controller knows no weights");
    assert_eq!(prioritized.order(4), [1, 1, 2, 2, 3, 3, 4, 4, 1, 1, 2, 2, 3, 3, 4, 4]);
    let told = Arbitration { burst: 1, low: 0, medium: 0, high: 0 };
    assert_eq!(prioritized.arbitration(), Some(told), "the weights are kept from it");
}

#[test]
fn without_a_burst_of_ours_the_controller_has_the_one_it_recommends() {
    let arbitration = ArbitrationOptions { burst: None, ..WEIGHTS };
    let config = Config { arbitration_burst: 3, ..weighted() };
    let prioritized = Prioritized::new(config, Some(arbitration));
    let told = Arbitration { burst: 3, low: 0, medium: 1, high: 3 };
    assert_eq!(prioritized.arbitration(), Some(told));
    let config = Config { arbitration_burst: 3, ..Config::default() };
    assert_eq!(Prioritized::new(config, Some(arbitration)).arbitration(), None);
}

#[test]
fn nothing_is_weighted_unless_asked_for() {
    let mut prioritized = Prioritized::new(weighted(), None);
    assert!(!prioritized.controller.has_priorities());
    assert_eq!(prioritized.arbitration(), None);
    assert_eq!(prioritized.order(2), [1, 2, 3, 4, 1, 2, 3, 4]);
}

#[test]
fn weights_and_priorities_come_back_after_a_reset() {
    let mut prioritized = Prioritized::new(weighted(), Some(WEIGHTS));
    prioritized.bench.run(prioritized.controller.restart()).unwrap();
    prioritized.make_queues();
    assert_eq!(prioritized.order(1), [4, 3, 2, 1]);
    assert_eq!(prioritized.arbitration().map(|told| told.high), Some(3));
}

#[test]
fn a_controller_that_takes_no_weights_is_used_all_the_same() {
    let bench = Bench::new(weighted());
    bench.model.inject(admin(AdminOpcode::SET_FEATURES), Fault::Status(0, 2));
    let options = Options { arbitration: Some(WEIGHTS), ..Options::default() };
    assert_eq!(bench.controller(options).namespaces().len(), 1);
    bench.model.inject(admin(AdminOpcode::SET_FEATURES), Fault::DropCompletion);
    let error = bench.try_bring_up(options).err().unwrap();
    let opcode = AdminOpcode::SET_FEATURES;
    assert_eq!(error, InitError::Command { opcode, error: crate::AdminError::Timeout });
}
