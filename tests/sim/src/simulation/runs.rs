use basalt_models::nvme::{Fault, any_io};

use super::machine::Machine;
use super::plan::{Layout, Plan};
use super::random::Random;
use super::workload::Host;

/// Turns of a host in a run.
const TURNS: u32 = 1500;
/// Steps in which what is left has to go.
const PATIENCE: u32 = 200_000;
/// Connections that a run cuts at most: blocks of what was under way are not used again.
const CUTS_MAX: u32 = 3;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// Nothing.
    None,
    /// Drives, in ways that they recover from; resets; connections are cut.
    Passing,
    /// The first of two drives, in the same ways, or it is pulled.
    OneDrive,
}

/// Runs a whole machine, and prints its seed if that fails.
fn run(seed: u64, layout: Layout, trouble: Trouble) -> Host {
    let told = Told(format!("seed {seed}, {layout:?}, {trouble:?}"));
    let plan = Plan::new(seed, layout);
    let mut machine = Machine::new(&plan);
    let free = |machine: &Machine| -> Vec<usize> {
        machine.pools.iter().map(|pool| pool.stats().bytes_free).collect()
    };
    let before = free(&machine);
    let mut host = Host::new(&mut machine, &plan);
    let mut fate = Fate { random: Random::new(seed ^ 0xfa7e), cuts: 0, is_pulled: false };
    for _ in 0..TURNS {
        host.turn(&mut machine);
        for _ in 0..fate.random.below(12) {
            machine.step();
        }
        fate.strike(trouble, &mut machine, &mut host);
    }
    for model in &machine.models {
        model.plan(|plan| plan.clear());
    }
    host.drain(&mut machine);
    wait_until(&mut machine, |machine| fate.is_pulled || machine.is_whole());
    host.verify(&mut machine);
    assert_eq!(machine.models.iter().flat_map(|model| model.violations()).next(), None);
    host.leave(&machine);
    wait_until(&mut machine, |machine| machine.in_use() == 0);
    if !fate.is_pulled {
        let after = free(&machine);
        assert!(after.iter().zip(&before).all(|(after, before)| after >= before), "{after:?}");
    }
    if trouble == Trouble::None {
        assert_eq!((host.failed, host.lost, machine.resets()), (0, 0, 0));
    }
    drop(told);
    host
}

fn wait_until(machine: &mut Machine, is_so: impl Fn(&Machine) -> bool) {
    machine.hurries = true;
    for _ in 0..PATIENCE {
        if is_so(machine) {
            machine.hurries = false;
            return;
        }
        machine.step();
    }
    panic!("it does not come to rest: {}", machine.describe());
}

/// Told if a test fails before it is over.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was {}; repeat it by BASALT_SEED", self.0);
        }
    }
}

/// What befalls a machine.
struct Fate {
    random: Random,
    cuts: u32,
    is_pulled: bool,
}

impl Fate {
    fn strike(&mut self, trouble: Trouble, machine: &mut Machine, host: &mut Host) {
        let is_due = trouble != Trouble::None && self.random.once_in(40);
        // Now and then also while a drive comes back.
        if !is_due || !self.is_pulled && !machine.is_whole() && !self.random.once_in(4) {
            return;
        }
        let drives = if trouble == Trouble::OneDrive { 1 } else { machine.models.len() as u64 };
        let drive = self.random.below(drives) as usize;
        let nth = 1 + self.random.below(8);
        let fault = match self.random.below(16) {
            0 | 1 => Fault::Delay(1 + self.random.below(50) as u32),
            2 | 3 => Fault::Reorder,
            4 => Fault::Delay(1_000_000),
            5 => Fault::DropCompletion,
            6 => Fault::WrongCid,
            7 => Fault::DuplicateCompletion,
            8 => Fault::StalePhase,
            9 => Fault::FatalStatus,
            // Not ready, internal error, write fault.
            10 => Fault::Status(0, 0x82),
            11 => Fault::Status(0, 0x06),
            12 => Fault::Status(2, 0x80),
            13 => return machine.begin_reset(drive),
            14 if trouble == Trouble::Passing && self.cuts < CUTS_MAX => {
                self.cuts += 1;
                return host.hang_up(machine);
            }
            15 if trouble == Trouble::OneDrive && self.random.once_in(4) => {
                self.is_pulled = true;
                return machine.models[0].remove();
            }
            _ => return,
        };
        machine.models[drive].plan(|plan| {
            // One at a time: a drive that fails again and again is given up.
            plan.clear();
            plan.on(any_io().nth(nth), fault);
        });
    }
}

/// The seeds of a test, or as many as are asked for, or the one that is, which is then logged.
fn seeds(count: u64) -> Vec<u64> {
    let asked = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let count = asked("BASALT_SEEDS").unwrap_or(count);
    let Some(seed) = asked("BASALT_SEED") else { return (1..=count).collect() };
    let _ = log::set_logger(&Console);
    log::set_max_level(log::LevelFilter::Debug);
    vec![seed]
}

/// Prints what the machine logs.
struct Console;

impl log::Log for Console {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

#[test]
fn without_trouble_everything_succeeds() {
    for seed in seeds(3) {
        for layout in Layout::ALL {
            assert!(run(seed, layout, Trouble::None).succeeded > 800);
        }
    }
}

#[test]
fn whatever_passes_each_command_ends_once_and_no_block_holds_what_it_may_not() {
    for seed in seeds(10) {
        for layout in Layout::ALL.into_iter().filter(|layout| *layout != Layout::Mirrored) {
            let host = run(seed, layout, Trouble::Passing);
            assert!(host.succeeded > 10 * host.failed, "{} {}", host.succeeded, host.failed);
        }
    }
}

#[test]
fn of_a_mirror_with_one_good_drive_nobody_notices_anything() {
    for seed in seeds(20) {
        let host = run(seed, Layout::Mirrored, Trouble::OneDrive);
        assert_eq!(host.failed, 0, "seed {seed}");
    }
}
