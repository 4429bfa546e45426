//! Who has registered with a namespace, and who has reserved it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_nvme_spec::fabrics::CNTLID_DYNAMIC;
use basalt_nvme_spec::reservation::{
    AcquireAction, PersistChange, RegisterAction, RegisteredController, ReleaseAction,
    ReservationKeys, ReservationNotice, ReservationStatus, ReservationType,
};
use basalt_nvme_spec::{Command, NvmOpcode, Status};
use zerocopy::IntoBytes;

use crate::group::{Excluded, Guard, HostId};

/// Most registrants: as many as a report can count (REGCTL).
const REGISTRANTS_MAX: usize = u16::MAX as usize;

/// The registrations of a namespace and its reservation (§8.19).
///
/// They last as long as the namespace: through resets and the end of every connection, but not
/// through a restart of the target (PTPL is not supported).
#[derive(Default)]
pub(super) struct Reservations {
    /// Ascending by host.
    registrants: Vec<Registrant>,
    held: Option<Held>,
    generation: u32,
    guard: Option<Arc<Guard>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Registrant {
    host: HostId,
    key: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    kind: ReservationType,
    /// Of no account where all registrants hold it.
    holder: HostId,
}

/// What a command has changed for others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    /// What hosts are to be told.
    pub(super) notices: Vec<(HostId, ReservationNotice)>,
    /// Hosts whose commands are to be aborted.
    pub(super) aborted: Vec<HostId>,
}

impl Reservations {
    /// Runs a Reservation Register, Acquire or Release on behalf of `host`.
    pub(super) fn run(
        &mut self,
        host: HostId,
        command: &Command,
        keys: ReservationKeys,
    ) -> Result<Change, Status> {
        let changed = match NvmOpcode(command.opcode) {
            NvmOpcode::RESERVATION_REGISTER => self.register(host, command, keys),
            NvmOpcode::RESERVATION_ACQUIRE => self.acquire(host, command, keys),
            NvmOpcode::RESERVATION_RELEASE => self.release(host, command, keys.current.get()),
            _ => Err(Status::INVALID_OPCODE),
        };
        let change = changed.map_err(Status::with_dnr)?;
        self.guard = self.fresh_guard().map(Arc::new);
        Ok(change)
    }

    /// What the I/O path has to know.
    pub(super) fn guard(&self) -> Option<&Arc<Guard>> {
        self.guard.as_ref()
    }

    /// The extended Reservation Status data structure (§7.5). There is one entry for each host,
    /// whatever the number of its controllers, as these are dynamic.
    pub(super) fn report(&self) -> Vec<u8> {
        let head = ReservationStatus {
            generation: self.generation.into(),
            kind: self.held.map_or(0, |held| held.kind.0),
            registered: (self.registrants.len() as u16).into(),
            ..ReservationStatus::default()
        };
        let mut bytes = head.as_bytes().to_vec();
        for registrant in &self.registrants {
            let entry = RegisteredController {
                cntlid: CNTLID_DYNAMIC.into(),
                status: u8::from(self.is_held_by(&registrant.host)),
                key: registrant.key.into(),
                hostid: registrant.host,
                ..RegisteredController::default()
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes
    }

    /// Reservation Register (§7.3).
    fn register(
        &mut self,
        host: HostId,
        command: &Command,
        keys: ReservationKeys,
    ) -> Result<Change, Status> {
        let action = command.register_action().ok_or(Status::INVALID_FIELD)?;
        if matches!(command.persist_change(), None | Some(PersistChange::Persist)) {
            return Err(Status::INVALID_FIELD);
        }
        let (old, new) = (self.key(&host), keys.other.get());
        let ignores = command.ignores_key();
        let is_right = old.is_some_and(|key| ignores || key == keys.current.get());
        let may_replace = is_right || ignores && old.is_none();
        let mut change = Change::default();
        match action {
            RegisterAction::Unregister if is_right => change.notices = self.unregister(&host),
            RegisterAction::Register if old.is_some_and(|key| key != new) => {
                return Err(Status::RESERVATION_CONFLICT);
            }
            RegisterAction::Replace if !may_replace => {
                return Err(Status::RESERVATION_CONFLICT);
            }
            RegisterAction::Register | RegisterAction::Replace => self.insert(host, new)?,
            RegisterAction::Unregister => return Err(Status::RESERVATION_CONFLICT),
        }
        self.count();
        Ok(change)
    }

    fn insert(&mut self, host: HostId, key: u64) -> Result<(), Status> {
        if key == 0 {
            return Err(Status::INVALID_FIELD);
        }
        match self.find(&host) {
            Ok(at) => self.registrants[at].key = key,
            Err(_) if self.registrants.len() >= REGISTRANTS_MAX => {
                return Err(Status::INTERNAL_ERROR);
            }
            Err(at) => self.registrants.insert(at, Registrant { host, key }),
        }
        Ok(())
    }

    /// A host is a registrant no more, which may release the reservation; gives whom to tell.
    fn unregister(&mut self, host: &HostId) -> Vec<(HostId, ReservationNotice)> {
        self.registrants.retain(|registrant| registrant.host != *host);
        let Some(held) = self.held else { return Vec::new() };
        if self.has_holder(held) {
            return Vec::new();
        }
        self.held = None;
        match held.kind.admits_registrants() {
            true => self.others(host, ReservationNotice::RESERVATION_RELEASED),
            false => Vec::new(),
        }
    }

    /// Whether somebody who holds `held` is registered.
    fn has_holder(&self, held: Held) -> bool {
        match held.kind.is_held_by_all() {
            true => !self.registrants.is_empty(),
            false => self.find(&held.holder).is_ok(),
        }
    }

    /// Reservation Acquire (§7.2).
    fn acquire(
        &mut self,
        host: HostId,
        command: &Command,
        keys: ReservationKeys,
    ) -> Result<Change, Status> {
        let action = command.acquire_action().ok_or(Status::INVALID_FIELD)?;
        let kind = command.reservation_type().ok_or(Status::INVALID_FIELD)?;
        self.check_key(&host, command, keys.current.get())?;
        let wanted = Held { kind, holder: host };
        if action != AcquireAction::Acquire {
            return self.preempt(wanted, action, keys.other.get());
        }
        match self.held {
            None => self.held = Some(wanted),
            Some(held) if held.kind == kind && self.is_held_by(&host) => {}
            Some(_) => return Err(Status::RESERVATION_CONFLICT),
        }
        Ok(Change::default())
    }

    /// Preempts the reservation or registrations of others (§8.19.7): those with `key`.
    fn preempt(&mut self, wanted: Held, action: AcquireAction, key: u64) -> Result<Change, Status> {
        let (old, host) = (self.held, wanted.holder);
        let gone = match old {
            Some(held) if held.kind.is_held_by_all() && key == 0 => {
                self.held = Some(wanted);
                self.remove(|registrant| registrant.host != host)
            }
            Some(held) if held.kind.is_held_by_all() => {
                let gone = self.remove(|registrant| registrant.key == key);
                if gone.is_empty() {
                    return Err(Status::RESERVATION_CONFLICT);
                }
                gone
            }
            Some(held) if self.key(&held.holder) == Some(key) => {
                self.held = Some(wanted);
                self.remove(|registrant| registrant.key == key && registrant.host != host)
            }
            Some(_) if key == 0 => return Err(Status::INVALID_FIELD),
            _ => self.remove(|registrant| registrant.key == key),
        };
        self.held = self.held.filter(|held| self.has_holder(*held));
        self.count();
        let gone: Vec<HostId> = gone.into_iter().filter(|other| *other != host).collect();
        let preempted = |host: &HostId| (*host, ReservationNotice::REGISTRATION_PREEMPTED);
        let mut notices: Vec<_> = gone.iter().map(preempted).collect();
        if self.held.map(|held| held.kind) != old.map(|held| held.kind) {
            notices.extend(self.others(&host, ReservationNotice::RESERVATION_RELEASED));
        }
        let aborts = action == AcquireAction::PreemptAndAbort;
        Ok(Change { notices, aborted: if aborts { gone } else { Vec::new() } })
    }

    /// Reservation Release (§7.4).
    fn release(&mut self, host: HostId, command: &Command, key: u64) -> Result<Change, Status> {
        let action = command.release_action().ok_or(Status::INVALID_FIELD)?;
        self.check_key(&host, command, key)?;
        let mut notices = Vec::new();
        match (action, self.held) {
            (ReleaseAction::Clear, _) => {
                notices = self.others(&host, ReservationNotice::RESERVATION_PREEMPTED);
                self.registrants.clear();
                self.held = None;
                self.count();
            }
            (ReleaseAction::Release, None) => {}
            (ReleaseAction::Release, Some(held)) => {
                if command.reservation_type() != Some(held.kind) {
                    return Err(Status::INVALID_FIELD);
                }
                if self.is_held_by(&host) {
                    self.held = None;
                    if held.kind.admits_registrants() {
                        notices = self.others(&host, ReservationNotice::RESERVATION_RELEASED);
                    }
                }
            }
        }
        Ok(Change { notices, ..Change::default() })
    }

    /// The key must be the host's, and must be looked at (IEKEY).
    fn check_key(&self, host: &HostId, command: &Command, key: u64) -> Result<(), Status> {
        if command.ignores_key() {
            return Err(Status::INVALID_FIELD);
        }
        match self.key(host) == Some(key) {
            true => Ok(()),
            false => Err(Status::RESERVATION_CONFLICT),
        }
    }

    /// Removes registrants; gives their hosts.
    fn remove(&mut self, is_it: impl Fn(&Registrant) -> bool) -> Vec<HostId> {
        let gone = self.registrants.extract_if(.., |registrant| is_it(registrant));
        gone.map(|registrant| registrant.host).collect()
    }

    /// `notice` for every registrant but `host`.
    fn others(&self, host: &HostId, notice: ReservationNotice) -> Vec<(HostId, ReservationNotice)> {
        let hosts = self.registrants.iter().map(|registrant| registrant.host);
        hosts.filter(|other| other != host).map(|host| (host, notice)).collect()
    }

    fn is_held_by(&self, host: &HostId) -> bool {
        let holds = |held: Held| held.kind.is_held_by_all() || held.holder == *host;
        self.held.is_some_and(holds) && self.find(host).is_ok()
    }

    fn key(&self, host: &HostId) -> Option<u64> {
        self.find(host).ok().map(|at| self.registrants[at].key)
    }

    fn find(&self, host: &HostId) -> Result<usize, usize> {
        self.registrants.binary_search_by_key(host, |registrant| registrant.host)
    }

    /// Registrations have changed, or could have (GEN).
    fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    fn fresh_guard(&self) -> Option<Guard> {
        let held = self.held?;
        let excluded = if held.kind.excludes_reads() { Excluded::All } else { Excluded::Writes };
        let hosts = match held.kind.admits_registrants() {
            true => self.registrants.iter().map(|registrant| registrant.host).collect(),
            false => Vec::from([held.holder]),
        };
        Some(Guard { excluded, hosts })
    }
}
