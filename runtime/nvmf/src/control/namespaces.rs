//! The namespaces of a subsystem, as they are configured and as bdevs come and go.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::{Bdev, Descriptor, Op};
use basalt_nvme_spec::Csi;

use super::configure::{ConfigError, is_nqn};
use super::controller::Controller;
use super::reservations::Reservations;
use super::subsystem::{Namespace, NamespaceOptions, SeenBy, Subsystem};
use super::{State, Target};
use crate::group::{Affected, Origin};

/// A namespace that came, went or changed.
pub(super) struct Changed {
    pub(super) nsid: u32,
    /// The hosts that this concerns.
    pub(super) seen_by: SeenBy,
    /// What hosts have to speak to see it.
    command_set: Csi,
    /// ANA groups that have other members now.
    pub(super) groups: Vec<u32>,
}

impl Changed {
    /// It came or went.
    fn members(nsid: u32, namespace: &Namespace) -> Self {
        let groups = Vec::from([namespace.anagrpid]);
        let (seen_by, command_set) = (namespace.seen_by.clone(), namespace.command_set());
        Self { nsid, seen_by, command_set, groups }
    }

    /// Whether that concerns a controller's host.
    pub(super) fn is_seen_by(&self, controller: &Controller) -> bool {
        let is_seen = self.seen_by.includes(&controller.hostnqn);
        is_seen && controller.command_sets().include(self.command_set)
    }
}

impl Target {
    /// Exports an open bdev for as long as the namespace exists; gives the namespace identifier.
    pub fn add_ns(
        &self,
        nqn: &str,
        bdev: Descriptor,
        options: NamespaceOptions,
    ) -> Result<u32, ConfigError> {
        if !matches!(bdev.info().block_size, 512 | 1024 | 2048 | 4096) {
            return Err(ConfigError::BadBlockSize);
        }
        // Zones are managed by the drive's own commands.
        if bdev.bdev().zones().is_some() && !bdev.allows(Op::NvmeIo) {
            return Err(ConfigError::Zoned);
        }
        let state = &mut *self.state.borrow_mut();
        let subsystem = state.edit(nqn)?;
        let nsids = 1..=subsystem.options.namespaces_max;
        let free = || nsids.clone().find(|nsid| !subsystem.namespaces.contains_key(nsid));
        let nsid = options.nsid.or_else(free).ok_or(ConfigError::BadNsid)?;
        let valid = nsids.contains(&nsid) && !subsystem.namespaces.contains_key(&nsid);
        if !valid {
            return Err(ConfigError::BadNsid);
        }
        let anagrpid = options.anagrpid.unwrap_or(nsid);
        subsystem.check_group(anagrpid)?;
        let uuid = options.uuid.unwrap_or(bdev.info().uuid);
        let nguid = options.nguid.unwrap_or_default();
        let seen_by = match options.no_auto_visible {
            true => SeenBy::Hosts(Vec::new()),
            false => SeenBy::Every,
        };
        let reservations = Reservations::default();
        let namespace = Namespace { bdev, uuid, nguid, anagrpid, seen_by, reservations };
        let changed = Changed::members(nsid, &namespace);
        subsystem.namespaces.insert(nsid, namespace);
        self.namespaces_changed(state, nqn, &changed);
        Ok(nsid)
    }

    /// Takes a namespace away. Commands already at the bdev complete.
    pub fn remove_ns(&self, nqn: &str, nsid: u32) -> Result<(), ConfigError> {
        let state = &mut *self.state.borrow_mut();
        let subsystem = state.edit(nqn)?;
        let gone = subsystem.namespaces.remove(&nsid).ok_or(ConfigError::NoSuchNamespace)?;
        self.namespaces_changed(state, nqn, &Changed::members(nsid, &gone));
        Ok(())
    }

    /// Lets the host named `hostnqn` see a namespace that was added for none.
    pub async fn ns_add_host(
        &self,
        nqn: &str,
        nsid: u32,
        hostnqn: &str,
    ) -> Result<(), ConfigError> {
        let changed = self.state.borrow_mut().show(nqn, nsid, hostnqn)?;
        self.tell_host(changed).await.map(|_| ())
    }

    /// Lets the host named `hostnqn` see such a namespace no longer. Once this is done no core
    /// takes a command for it from that host, and those that were let in before have ended.
    pub async fn ns_remove_host(
        &self,
        nqn: &str,
        nsid: u32,
        hostnqn: &str,
    ) -> Result<(), ConfigError> {
        let changed = self.state.borrow_mut().hide(nqn, nsid, hostnqn)?;
        let Some(subsystem) = self.tell_host(changed).await? else { return Ok(()) };
        let (nsids, from) = (Vec::from([nsid]), Origin::Host(String::from(hostnqn)));
        self.drain(Affected { subsystem, nsids, from }).await
    }

    /// Has cores and host know of a change, if there was one; gives the subsystem.
    async fn tell_host(&self, changed: Option<(u32, Changed)>) -> Result<Option<u32>, ConfigError> {
        let Some((subsystem, changed)) = changed else { return Ok(None) };
        self.spread(subsystem).await?;
        self.namespace_changed(&mut self.state.borrow_mut(), subsystem, &changed);
        Ok(Some(subsystem))
    }

    /// Takes the namespaces of a bdev away.
    pub(super) fn bdev_removed(&self, bdev: &Arc<dyn Bdev>) {
        let state = &mut *self.state.borrow_mut();
        let mut gone = Vec::new();
        for subsystem in &mut state.subsystems {
            let nqn = subsystem.nqn.clone();
            let ours =
                subsystem.namespaces.extract_if(.., |_, ns| Arc::ptr_eq(ns.bdev.bdev(), bdev));
            gone.extend(ours.map(|(nsid, ns)| (nqn.clone(), Changed::members(nsid, &ns))));
        }
        for (nqn, changed) in gone {
            log::warn!(target: "nvmf", "{nqn}: namespace {} is gone with its bdev", changed.nsid);
            self.namespaces_changed(state, &nqn, &changed);
        }
    }

    /// Every host hears of a size that has changed.
    pub(super) fn bdev_resized(&self, bdev: &Arc<dyn Bdev>) {
        let state = &mut *self.state.borrow_mut();
        let mut changed = Vec::new();
        for subsystem in &state.subsystems {
            let ours = subsystem.namespaces.iter();
            let ours = ours.filter(|(_, namespace)| Arc::ptr_eq(namespace.bdev.bdev(), bdev));
            let attributes = |(nsid, namespace): (&u32, &Namespace)| Changed {
                groups: Vec::new(),
                ..Changed::members(*nsid, namespace)
            };
            changed.extend(ours.map(attributes).map(|one| (subsystem.nqn.clone(), one)));
        }
        for (nqn, changed) in changed {
            self.namespaces_changed(state, &nqn, &changed);
        }
    }

    /// A namespace came, went or changed.
    fn namespaces_changed(&self, state: &mut State, nqn: &str, changed: &Changed) {
        let Ok(subsystem) = state.edit(nqn) else { return };
        subsystem.version += 1;
        let id = subsystem.id;
        if let Some(subsystem) = state.subsystem(id) {
            self.publish(state, subsystem);
        }
        self.namespace_changed(state, id, changed);
    }

    /// Hands the subsystem's namespaces to the cores that use it.
    pub(super) fn publish(&self, state: &State, subsystem: &Subsystem) {
        let view = subsystem.view();
        for &core in &state.members {
            let view = Arc::clone(&view);
            self.tell(core, move |group| group.refresh(&view));
        }
    }
}

impl State {
    /// Adds a host to those that see a namespace; what has changed, unless it is one already.
    fn show(
        &mut self,
        nqn: &str,
        nsid: u32,
        host: &str,
    ) -> Result<Option<(u32, Changed)>, ConfigError> {
        let subsystem = self.edit(nqn)?;
        let hosts = subsystem.hosts_of(nsid, host)?;
        let is_new = !hosts.iter().any(|other| other == host);
        hosts.extend(is_new.then(|| String::from(host)));
        Ok(is_new.then(|| subsystem.seen_otherwise(nsid, host)).flatten())
    }

    /// Takes a host from those that see a namespace; what has changed, unless it is none.
    fn hide(
        &mut self,
        nqn: &str,
        nsid: u32,
        host: &str,
    ) -> Result<Option<(u32, Changed)>, ConfigError> {
        let subsystem = self.edit(nqn)?;
        let hosts = subsystem.hosts_of(nsid, host)?;
        let before = hosts.len();
        hosts.retain(|other| other != host);
        let is_gone = hosts.len() < before;
        Ok(is_gone.then(|| subsystem.seen_otherwise(nsid, host)).flatten())
    }
}

impl Subsystem {
    /// The hosts that see a namespace which not all see, for a change of `host`.
    fn hosts_of(&mut self, nsid: u32, host: &str) -> Result<&mut Vec<String>, ConfigError> {
        if !is_nqn(host) {
            return Err(ConfigError::BadNqn);
        }
        let namespace = self.namespaces.get_mut(&nsid).ok_or(ConfigError::NoSuchNamespace)?;
        match &mut namespace.seen_by {
            SeenBy::Every => Err(ConfigError::AutoVisible),
            SeenBy::Hosts(hosts) => Ok(hosts),
        }
    }

    /// One host sees a namespace, or does not, and did not, or did: what it is to be told.
    fn seen_otherwise(&mut self, nsid: u32, host: &str) -> Option<(u32, Changed)> {
        let namespace = self.namespaces.get(&nsid)?;
        self.version += 1;
        let seen_by = SeenBy::Hosts(Vec::from([String::from(host)]));
        let changed = Changed { seen_by, ..Changed::members(nsid, namespace) };
        Some((self.id, changed))
    }
}
