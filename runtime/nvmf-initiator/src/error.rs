use core::fmt;

use basalt_net::ConnectError;
use basalt_nvme_spec::Status;
use basalt_nvme_spec::fabrics::InvalidParameter;

use basalt_nvmf_host::LinkError;

/// Why a remote controller cannot be used by a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// A core has no network.
    NoNetwork,
    /// No connection can be asked for.
    Connect(ConnectError),
    /// A connection was lost.
    Lost(LinkError),
    /// We have let go of it.
    Dropped,
    /// The controller does not answer in time.
    Timeout,
    /// It refuses the Connect.
    Refused(Status),
    /// It refuses a parameter of the Connect.
    Invalid(InvalidParameter),
    /// It wants to know who we are in a way that we do not speak (DH-HMAC-CHAP).
    Authentication,
    /// It does not become ready, or says that it has failed.
    NotReady,
    /// It fails a command that it must know.
    Command(Status),
    /// What it says of itself cannot be.
    BadData,
    /// It grants no I/O queue.
    NoQueues,
    /// It belongs to another subsystem than the other paths lead to.
    OtherSubsystem,
    /// Out of DMA memory.
    NoMemory,
    /// It is disabled, and has to be enabled first.
    Disabled,
    /// It is to be enabled, and is.
    Enabled,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNetwork => "there is no network",
            Self::Connect(error) => return error.fmt(f),
            Self::Lost(error) => return error.fmt(f),
            Self::Dropped => "the connection was given up",
            Self::Timeout => "the controller does not answer in time; is its target reachable?",
            Self::Refused(status) => return write!(f, "the target refuses to connect: {status}"),
            Self::Invalid(parameter) => return invalid(*parameter, f),
            Self::Authentication => "the target wants authentication, which is not supported",
            Self::NotReady => "the controller does not become ready",
            Self::Command(status) => return write!(f, "the controller fails a command: {status}"),
            Self::BadData => "what the controller says of itself cannot be",
            Self::NoQueues => "the controller grants no I/O queue",
            Self::OtherSubsystem => "the path leads to another subsystem than the others",
            Self::NoMemory => "out of DMA memory",
            Self::Disabled => "the controller is disabled: enable it first",
            Self::Enabled => "the controller is not disabled",
        })
    }
}

fn invalid(parameter: InvalidParameter, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SUBNQN: u16 = 256;
    const HOSTNQN: u16 = 512;
    const HOSTID: u16 = 0;
    const CNTLID: u16 = 16;
    match parameter {
        InvalidParameter::Data(SUBNQN) => {
            f.write_str("the target has no subsystem of that name at this address; see 'subnqn'")
        }
        InvalidParameter::Data(HOSTNQN) => {
            f.write_str("the target does not take the host's name; see 'hostnqn'")
        }
        InvalidParameter::Data(HOSTID) => {
            f.write_str("the target does not take the host's identifier")
        }
        InvalidParameter::Data(CNTLID) => f.write_str("the target no longer has the controller"),
        InvalidParameter::Data(at) => {
            write!(f, "the target refuses byte {at} of the data of Connect")
        }
        InvalidParameter::Command(at) => write!(f, "the target refuses byte {at} of Connect"),
    }
}
