use basalt_env::Registers;
use basalt_nvme_spec::registers::{CC, CSTS};
use basalt_nvme_spec::{Cc, Csts};

/// What the status register says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Health {
    /// Neither fatal nor gone.
    Fine {
        /// Whether CSTS.RDY is set.
        ready: bool,
    },
    /// CSTS.CFS is set.
    Fatal,
    /// All ones: nothing answers.
    Removed,
}

pub(crate) fn health(registers: &impl Registers) -> Health {
    let raw = registers.read32(CSTS);
    if raw == Csts::ALL_ONES {
        return Health::Removed;
    }
    let csts = Csts::from_bits_retain(raw);
    if csts.contains(Csts::FATAL) {
        return Health::Fatal;
    }
    Health::Fine { ready: csts.contains(Csts::READY) }
}

pub(crate) fn configuration(registers: &impl Registers) -> Cc {
    Cc(registers.read32(CC))
}

pub(crate) fn configure(registers: &impl Registers, cc: Cc) {
    registers.write32(CC, cc.0);
}
