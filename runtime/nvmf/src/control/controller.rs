use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::Instant;
use basalt_net::Endpoint;
use basalt_nvme_spec::registers::{Csts, Shutdown};
use basalt_nvme_spec::{AsyncEvent, Cc};

use super::ana::AnaChanges;
use super::discovery::Told;
use super::error_log::ErrorLog;
use super::features::Features;
use super::notifications::Notifications;
use crate::behavior::HostBehavior;
use crate::connection::ConnectionId;
use crate::group::{CommandSets, Tag};

/// Asynchronous event requests a controller holds.
pub(super) const AER_MAX: usize = 4;
/// Keep-alive granularity.
pub(super) const KEEP_ALIVE_UNIT: Duration = Duration::from_millis(100);
/// A discovery controller without keep-alive ends after this long without a command.
const DISCOVERY_IDLE: Duration = Duration::from_secs(120);

/// An I/O queue of a controller.
pub(super) struct IoQueue {
    pub(super) qid: u16,
    pub(super) connection: ConnectionId,
}

/// A held asynchronous event request.
pub(super) struct HeldRequest {
    pub(super) cid: u16,
    pub(super) tag: Tag,
}

/// A controller of the dynamic model: made by Connect, gone with its admin connection.
pub(super) struct Controller {
    pub(super) cntlid: u16,
    /// The subsystem; `None` for a discovery controller.
    pub(super) subsystem: Option<u32>,
    /// The listener it was connected by; `None` for a discovery controller.
    pub(super) listener: Option<u32>,
    pub(super) hostnqn: String,
    pub(super) hostid: [u8; 16],
    /// The admin queue's connection.
    pub(super) admin: ConnectionId,
    pub(super) queues: Vec<IoQueue>,
    pub(super) reached_at: Option<Endpoint>,
    pub(super) cc: Cc,
    pub(super) csts: Csts,
    pub(super) features: Features,
    pub(super) last_seen: Instant,
    /// Held requests, oldest first.
    pub(super) requests: Vec<HeldRequest>,
    /// Events nobody asked for yet, with the bit of the event configuration that wants them.
    pub(super) pending: Vec<(AsyncEvent, u32)>,
    /// Events sent whose log page has not been read since.
    pub(super) masked: Vec<AsyncEvent>,
    pub(super) changed_namespaces: BTreeSet<u32>,
    /// Whether its subsystem reports asymmetric access.
    pub(super) reports_ana: bool,
    pub(super) ana_changes: AnaChanges,
    pub(super) errors: ErrorLog,
    /// What a discovery controller has for its host.
    pub(super) told: Told,
    pub(super) notifications: Notifications,
    /// What its host has said of itself; its queues have it too.
    pub(super) behavior: Arc<HostBehavior>,
}

impl Controller {
    pub(super) const fn is_discovery(&self) -> bool {
        self.subsystem.is_none()
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.csts.contains(Csts::READY)
    }

    /// Whether it is ready and its host has not asked it to shut down.
    pub(super) fn is_in_use(&self) -> bool {
        self.is_ready() && self.csts.shutdown() == Shutdown::NONE
    }

    /// What its host has selected.
    pub(super) fn command_sets(&self) -> CommandSets {
        if self.cc.css() == Cc::CSS_ALL { CommandSets::All } else { CommandSets::Nvm }
    }

    /// Controller reset (§3.7.2): registers, features and logs are as at the start; the keep-alive
    /// timer runs on, and so does the count of errors. That the subsystem was reset is told until
    /// the host has acknowledged it.
    pub(super) fn reset(&mut self) {
        self.cc = Cc::DISABLED;
        self.csts &= Csts::SUBSYSTEM_RESET;
        self.features.reset();
        self.behavior.reset();
        self.changed_namespaces.clear();
        self.ana_changes = AnaChanges::default();
        self.errors.clear();
        self.notifications = Notifications::default();
    }

    /// Whether the host has been silent for longer than agreed (§3.9).
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let limit = match self.features.kato_ms {
            0 if self.is_discovery() => DISCOVERY_IDLE,
            0 => return false,
            ms => Duration::from_millis(u64::from(ms)) + KEEP_ALIVE_UNIT,
        };
        now.since(self.last_seen) > limit
    }
}
