//! Where a subsystem is served.

use alloc::vec::Vec;

use basalt_env::CoreId;
use basalt_nvme_spec::AnaState;
use basalt_nvme_spec::fabrics::DISCOVERY_NQN;
use basalt_reactor::Local;

use super::configure::ConfigError;
use super::subsystem::{Listener, SubsystemListener};
use super::{State, Target};
use crate::group::PollGroup;

impl Target {
    /// Serves the subsystem at `listener`: a port, at an address or all of them. With the name of
    /// the discovery subsystem, serves discovery alone there. Again, if it does already.
    pub async fn add_listener(
        &self,
        nqn: &str,
        listener: impl Into<Listener>,
    ) -> Result<(), ConfigError> {
        self.add_listener_in(nqn, listener, AnaState::Optimized).await
    }

    /// The same; a listener that is new reaches every ANA group as `ana` says. Other than optimized
    /// it can only be where the subsystem tells so.
    pub async fn add_listener_in(
        &self,
        nqn: &str,
        listener: impl Into<Listener>,
        ana: AnaState,
    ) -> Result<(), ConfigError> {
        let listener = listener.into();
        self.state.borrow_mut().check_listener(nqn, ana)?;
        self.listen_everywhere(listener.port).await?;
        let state = &mut *self.state.borrow_mut();
        state.check_listener(nqn, ana)?;
        if state.insert_listener(nqn, listener, ana)? {
            self.discovery_changed(state);
        }
        Ok(())
    }

    /// Has every core listen on `port`. A core that joins meanwhile is not passed over: the last
    /// look at the members is not followed by a wait, and who joins later asks for the ports.
    async fn listen_everywhere(&self, port: u16) -> Result<(), ConfigError> {
        let mut asked = Vec::new();
        while let Some(core) = self.member_not_in(&asked) {
            let listen =
                move |local: &Local| local.service::<PollGroup>().map(|group| group.listen(port));
            match self.local.call(core, listen).await {
                Ok(Some(Ok(()))) => asked.push(core),
                _ => return Err(ConfigError::PortUnavailable),
            }
        }
        Ok(())
    }

    fn member_not_in(&self, asked: &[CoreId]) -> Option<CoreId> {
        self.state.borrow().members.iter().copied().find(|core| !asked.contains(core))
    }

    /// Serves the subsystem (or discovery) at `listener` no longer. Controllers of the subsystem
    /// that were connected by it end, as a path of theirs does.
    pub fn remove_listener(
        &self,
        nqn: &str,
        listener: impl Into<Listener>,
    ) -> Result<(), ConfigError> {
        let listener = listener.into();
        let state = &mut *self.state.borrow_mut();
        if let Some(id) = state.take_listener(nqn, listener)? {
            for controller in state.controllers.iter().filter(|c| c.listener == Some(id)) {
                self.end_controller(controller);
            }
        }
        self.close_ports(state, &[listener.port]);
        self.discovery_changed(state);
        Ok(())
    }

    /// Where discovery alone is served.
    pub fn discovery_listeners(&self) -> Vec<Listener> {
        self.state.borrow().discovery.clone()
    }

    pub(super) fn close_ports(&self, state: &State, ports: &[u16]) {
        let used = state.ports();
        for &port in ports.iter().filter(|port| !used.contains(port)) {
            for &core in &state.members {
                self.tell(core, move |group| group.unlisten(port));
            }
        }
    }
}

impl State {
    fn check_listener(&mut self, nqn: &str, ana: AnaState) -> Result<(), ConfigError> {
        let reports = nqn != DISCOVERY_NQN && self.edit(nqn)?.options.ana_reporting;
        if reports || ana == AnaState::Optimized { Ok(()) } else { Err(ConfigError::AnaDisabled) }
    }

    /// Adds a listener; `false` if it is there.
    fn insert_listener(
        &mut self,
        nqn: &str,
        at: Listener,
        ana: AnaState,
    ) -> Result<bool, ConfigError> {
        if nqn == DISCOVERY_NQN {
            let is_new = !self.discovery.contains(&at);
            self.discovery.extend(is_new.then_some(at));
            return Ok(is_new);
        }
        let id = self.listener_last + 1;
        let subsystem = self.edit(nqn)?;
        if subsystem.listeners.iter().any(|other| other.at == at) {
            return Ok(false);
        }
        let ana = alloc::vec![ana; subsystem.options.namespaces_max as usize];
        subsystem.listeners.push(SubsystemListener { id, at, ana });
        subsystem.version += 1;
        self.listener_last = id;
        Ok(true)
    }

    /// Removes a listener; gives its identifier if it was a subsystem's.
    fn take_listener(&mut self, nqn: &str, at: Listener) -> Result<Option<u32>, ConfigError> {
        const NONE: ConfigError = ConfigError::NoSuchListener;
        if nqn == DISCOVERY_NQN {
            let place = self.discovery.iter().position(|other| *other == at).ok_or(NONE)?;
            self.discovery.remove(place);
            return Ok(None);
        }
        let subsystem = self.edit(nqn)?;
        let place = subsystem.listeners.iter().position(|other| other.at == at).ok_or(NONE)?;
        subsystem.version += 1;
        Ok(Some(subsystem.listeners.remove(place).id))
    }
}
