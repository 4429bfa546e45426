use basalt_nvme_spec::{AdminOpcode, NvmOpcode};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The command is carried out, its completion never sent.
    DropCompletion,
    /// The command is carried out and completed that many steps later.
    Delay(u32),
    /// The command is carried out, and its completion comes after that of the next command of its
    /// queue to end; if there is none for a while, by itself.
    Reorder,
    /// The command is not carried out and fails with this status code type and code.
    Status(u8, u8),
    /// The completion names a command that does not exist.
    WrongCid,
    /// The completion is sent twice.
    DuplicateCompletion,
    /// The completion is written with the phase of the lap before.
    StalePhase,
    /// The controller stops and sets CSTS.CFS.
    FatalStatus,
    /// CSTS.RDY keeps its value after CC.EN was changed. For [`enable`] and [`disable`].
    StuckReady,
    /// The device is gone: every read gives all ones.
    AllOnes,
    /// The command succeeds, one bit of the data it returns is wrong.
    CorruptData,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trigger {
    Admin(u8),
    Io(u8),
    AnyIo,
    Enable,
    Disable,
}

/// Which occurrences of something a fault befalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    trigger: Trigger,
    first: u64,
    count: u64,
}

impl Match {
    const fn new(trigger: Trigger) -> Self {
        Self { trigger, first: 1, count: 1 }
    }

    /// Only the `n`-th occurrence from now, counted from 1. Without it: the first.
    #[must_use]
    pub const fn nth(self, n: u64) -> Self {
        Self { first: n, count: 1, ..self }
    }

    /// Every occurrence.
    #[must_use]
    pub const fn every(self) -> Self {
        Self { first: 1, count: u64::MAX, ..self }
    }
}

/// I/O commands with this opcode.
pub const fn io(opcode: NvmOpcode) -> Match {
    Match::new(Trigger::Io(opcode.0))
}

/// I/O commands of any kind.
pub const fn any_io() -> Match {
    Match::new(Trigger::AnyIo)
}

/// Admin commands with this opcode.
pub const fn admin(opcode: AdminOpcode) -> Match {
    Match::new(Trigger::Admin(opcode.0))
}

/// CC.EN being set.
pub const fn enable() -> Match {
    Match::new(Trigger::Enable)
}

/// CC.EN being cleared.
pub const fn disable() -> Match {
    Match::new(Trigger::Disable)
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    what: Match,
    fault: Fault,
    seen: u64,
}

/// Which commands go wrong, and how. The first rule that fits decides; all that fit count.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
}

impl FaultPlan {
    /// Adds a rule.
    pub fn on(&mut self, what: Match, fault: Fault) -> &mut Self {
        self.rules.push(Rule { what, fault, seen: 0 });
        self
    }

    /// Forgets all rules.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Something happened: the fault that befalls it.
    pub(super) fn strike(&mut self, event: Trigger) -> Option<Fault> {
        let mut fault = None;
        for rule in &mut self.rules {
            let fits = rule.what.trigger == event
                || rule.what.trigger == Trigger::AnyIo && matches!(event, Trigger::Io(_));
            if !fits {
                continue;
            }
            rule.seen += 1;
            let after = rule.seen.checked_sub(rule.what.first);
            if fault.is_none() && after.is_some_and(|after| after < rule.what.count) {
                fault = Some(rule.fault);
            }
        }
        fault
    }
}
