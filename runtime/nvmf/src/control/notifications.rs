//! What a controller tells its host of reservations: the Reservation Notification log (§5.16.1.24)
//! and the features about it.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use basalt_nvme_spec::reservation::{ReservationNotice, ReservationNotification};
use basalt_nvme_spec::{Command, FeatureId, NSID_ALL, Status};
use zerocopy::IntoBytes;

use super::controller::Controller;
use super::features::{self, SAVE};
use super::{State, Target};
use crate::command::Outcome;
use crate::group::HostId;

/// Notices that wait to be read; the oldest give way.
const WAITING_MAX: usize = 256;

/// A controller's notices, and which its host does not want.
#[derive(Default)]
pub(super) struct Notifications {
    /// Oldest first: number, what, and of which namespace.
    waiting: VecDeque<(u64, ReservationNotice, u32)>,
    last: u64,
    /// By namespace, the bits of notices that are not wanted.
    masks: BTreeMap<u32, u32>,
}

impl Notifications {
    /// Adds a notice, unless it is masked; whether it was added.
    fn push(&mut self, nsid: u32, notice: ReservationNotice) -> bool {
        if self.mask(nsid) & notice.mask() != 0 {
            return false;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        // 0 would say that there is none.
        self.last = self.last.checked_add(1).unwrap_or(1);
        self.waiting.push_back((self.last, notice, nsid));
        true
    }

    /// The log page: the oldest notice, or zeroes.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page = ReservationNotification::default();
        if let Some((count, notice, nsid)) = self.waiting.front() {
            page.count = (*count).into();
            page.notice = notice.0;
            page.available = u8::try_from(self.waiting.len() - 1).unwrap_or(u8::MAX);
            page.nsid = (*nsid).into();
        }
        page.as_bytes().to_vec()
    }

    /// The oldest notice has been read.
    pub(super) fn pop(&mut self) {
        self.waiting.pop_front();
    }

    fn mask(&self, nsid: u32) -> u32 {
        self.masks.get(&nsid).copied().unwrap_or(0)
    }
}

/// Whether Get or Set Features is about the reservations of a namespace.
pub(super) const fn are_about(command: &Command) -> bool {
    matches!(
        feature(command),
        FeatureId::RESERVATION_NOTIFICATION_MASK | FeatureId::RESERVATION_PERSISTENCE
    )
}

const fn feature(command: &Command) -> FeatureId {
    FeatureId(command.cdw10.get() as u8)
}

/// Set Features of such a feature (§5.27.1.26, §5.27.1.27) for the controller at index `at`.
pub(super) fn set(state: &mut State, at: usize, command: &Command) -> Outcome {
    try_set(state, at, command).map(|()| 0).map_err(Status::with_dnr).into()
}

fn try_set(state: &mut State, at: usize, command: &Command) -> Result<(), Status> {
    const PTPL: u32 = 1;
    if command.cdw10.get() & SAVE != 0 {
        return Err(Status::FEATURE_NOT_SAVEABLE);
    }
    let nsids = namespaces(state, at, command.nsid.get())?;
    let value = command.cdw11.get();
    if feature(command) == FeatureId::RESERVATION_PERSISTENCE {
        // Nothing is kept that could survive.
        return if value & PTPL != 0 { Err(Status::INVALID_FIELD) } else { Ok(()) };
    }
    let masks = &mut state.controllers[at].notifications.masks;
    masks.extend(nsids.into_iter().map(|nsid| (nsid, value & ReservationNotice::MASK_ALL)));
    Ok(())
}

/// Get Features of such a feature.
pub(super) fn get(state: &State, at: usize, command: &Command) -> Outcome {
    let feature = feature(command);
    let nsid = command.nsid.get();
    let select = command.cdw10.get() >> 8 & 7;
    if select == 3 {
        return Outcome::value(u64::from(features::capabilities(feature)));
    }
    match namespaces(state, at, nsid) {
        _ if select > 3 => Status::INVALID_FIELD.with_dnr().into(),
        // One value cannot stand for all namespaces.
        Ok(_) if nsid == NSID_ALL => Status::INVALID_NAMESPACE.with_dnr().into(),
        Ok(_) if select == 0 && feature == FeatureId::RESERVATION_NOTIFICATION_MASK => {
            Outcome::value(u64::from(state.controllers[at].notifications.mask(nsid)))
        }
        Ok(_) => Outcome::OK,
        Err(status) => status.with_dnr().into(),
    }
}

/// The namespaces that `nsid` stands for, as far as the host sees them.
fn namespaces(state: &State, at: usize, nsid: u32) -> Result<Vec<u32>, Status> {
    let controller = &state.controllers[at];
    let subsystem = controller.subsystem.and_then(|id| state.subsystem(id));
    let subsystem = subsystem.ok_or(Status::INVALID_FIELD)?;
    if nsid == NSID_ALL {
        return Ok(subsystem.namespaces_for(controller).map(|(nsid, _)| nsid).collect());
    }
    let namespace = subsystem.namespace_for(controller, nsid);
    namespace.map(|_| Vec::from([nsid])).ok_or(Status::INVALID_NAMESPACE)
}

impl Target {
    /// Tells hosts what has become of namespace `nsid` of `subsystem`, if they see it.
    pub(super) fn notify(
        &self,
        subsystem: u32,
        nsid: u32,
        notices: &[(HostId, ReservationNotice)],
    ) {
        let State { subsystems, controllers, .. } = &mut *self.state.borrow_mut();
        let ours = subsystems.iter().find(|other| other.id == subsystem);
        let Some(ours) = ours else { return };
        for (host, notice) in notices {
            let is_theirs = |c: &&mut Controller| {
                let is_meant = c.subsystem == Some(subsystem) && c.hostid == *host;
                is_meant && ours.namespace_for(c, nsid).is_some()
            };
            for controller in controllers.iter_mut().filter(is_theirs) {
                if controller.notifications.push(nsid, *notice) {
                    self.raise_reservation(controller);
                }
            }
        }
    }
}
