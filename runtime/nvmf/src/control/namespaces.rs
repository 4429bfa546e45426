//! The namespaces of a subsystem, as they are configured and as bdevs come and go.

use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::{Bdev, Descriptor};

use super::configure::ConfigError;
use super::subsystem::{Namespace, NamespaceOptions, Subsystem};
use super::{State, Target};

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
        if bdev.bdev().zones().is_some() {
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
        subsystem.namespaces.insert(nsid, Namespace { bdev, uuid, nguid, anagrpid });
        self.namespaces_changed(state, nqn, nsid, &[anagrpid]);
        Ok(nsid)
    }

    /// Takes a namespace away. Commands already at the bdev complete.
    pub fn remove_ns(&self, nqn: &str, nsid: u32) -> Result<(), ConfigError> {
        let state = &mut *self.state.borrow_mut();
        let subsystem = state.edit(nqn)?;
        let gone = subsystem.namespaces.remove(&nsid).ok_or(ConfigError::NoSuchNamespace)?;
        self.namespaces_changed(state, nqn, nsid, &[gone.anagrpid]);
        Ok(())
    }

    /// Takes the namespaces of a bdev away.
    pub(super) fn bdev_removed(&self, bdev: &Arc<dyn Bdev>) {
        let state = &mut *self.state.borrow_mut();
        let mut gone = Vec::new();
        for subsystem in &mut state.subsystems {
            let nqn = subsystem.nqn.clone();
            let ours =
                subsystem.namespaces.extract_if(.., |_, ns| Arc::ptr_eq(ns.bdev.bdev(), bdev));
            gone.extend(ours.map(|(nsid, namespace)| (nqn.clone(), nsid, namespace.anagrpid)));
        }
        for (nqn, nsid, anagrpid) in gone {
            log::warn!(target: "nvmf", "{nqn}: namespace {nsid} is gone with its bdev");
            self.namespaces_changed(state, &nqn, nsid, &[anagrpid]);
        }
    }

    /// Every host hears of a size that has changed.
    pub(super) fn bdev_resized(&self, bdev: &Arc<dyn Bdev>) {
        let state = &mut *self.state.borrow_mut();
        let mut changed = Vec::new();
        for subsystem in &state.subsystems {
            let ours = subsystem.namespaces.iter();
            let ours = ours.filter(|(_, namespace)| Arc::ptr_eq(namespace.bdev.bdev(), bdev));
            changed.extend(ours.map(|(nsid, _)| (subsystem.nqn.clone(), *nsid)));
        }
        for (nqn, nsid) in changed {
            self.namespaces_changed(state, &nqn, nsid, &[]);
        }
    }

    /// Namespace `nsid` came, went or changed, and with it the members of the ANA groups `groups`.
    fn namespaces_changed(&self, state: &mut State, nqn: &str, nsid: u32, groups: &[u32]) {
        let Ok(subsystem) = state.edit(nqn) else { return };
        subsystem.version += 1;
        let id = subsystem.id;
        if let Some(subsystem) = state.subsystem(id) {
            self.publish(state, subsystem);
        }
        self.namespace_changed(state, id, nsid, groups);
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
