use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;

use basalt_env::CoreId;
use basalt_reactor::Local;
use basalt_serve::{Access, Gate};

/// Most prefixes of a list of who may connect: it is gone through for each connection.
pub const ALLOWED_MAX: usize = 64;

/// What is reached over the network, each by those whom it lets in itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// The control plane.
    Rpc,
    /// The page and the metrics.
    Web,
}

impl Door {
    pub(crate) const ALL: [Self; 2] = [Self::Rpc, Self::Web];

    /// The method that says who may come in.
    pub(crate) const fn method(self) -> &'static str {
        match self {
            Self::Rpc => "rpc_set_listener",
            Self::Web => "web_set_listener",
        }
    }

    /// The subsystem that this method is saved under.
    pub(crate) const fn subsystem(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::Web => "web",
        }
    }
}

/// Who comes in by a door, and where it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entrance {
    /// Who comes in.
    pub access: Access,
    /// The TCP port; that which its server was started with if there is none.
    pub port: Option<u16>,
}

/// The gate of the page and the metrics: a service of every core that serves them.
#[derive(Debug, Default)]
pub struct WebGate(pub Rc<Gate>);

/// Says on every core who may come in by a door. The text names the first core that does not
/// answer.
pub(crate) async fn set_everywhere(
    local: &Local,
    door: Door,
    entrance: &Entrance,
) -> Result<(), String> {
    for core in (0..local.cores() as u16).map(CoreId) {
        let Entrance { access, port } = entrance.clone();
        let set = local.call(core, move |local| {
            let gate = match door {
                Door::Rpc => local.service::<Gate>(),
                Door::Web => local.service::<WebGate>().map(|web| Rc::clone(&web.0)),
            };
            if let Some(gate) = gate {
                gate.set_at(access, port);
            }
        });
        set.await.map_err(|error| format!("core {core} does not answer: {error}"))?;
    }
    Ok(())
}
