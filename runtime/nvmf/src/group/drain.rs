//! Waiting for the commands that were let in before a path was closed.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_reactor::Local;

use super::{PollGroup, State, Tag, Visitor, connection};

/// How often is looked whether they have ended.
const STEP: Duration = Duration::from_millis(1);

/// Commands that a change of access is about.
#[derive(Clone, Debug)]
pub(crate) struct Affected {
    /// The subsystem.
    pub(crate) subsystem: u32,
    /// Its namespaces, ascending.
    pub(crate) nsids: Vec<u32>,
    /// Where they come from.
    pub(crate) from: Origin,
}

/// Where commands come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// From hosts connected by this listener.
    Listener(u32),
    /// From the host of this name.
    Host(String),
}

impl Affected {
    /// Whether `visitor` is one whose commands are meant.
    pub(crate) fn concerns(&self, visitor: &Visitor) -> bool {
        match &self.from {
            Origin::Listener(listener) => visitor.listener == *listener,
            Origin::Host(name) => visitor.host == *name,
        }
    }
}

impl PollGroup {
    /// The affected commands that are at bdevs now.
    fn running(&self, affected: &Affected) -> Vec<Tag> {
        let State { core, places, .. } = &*self.state.borrow();
        let mut tags = Vec::new();
        for connection in places.iter().filter_map(|place| place.connection.as_ref()) {
            connection.running(core, affected, &mut tags);
        }
        tags
    }

    fn is_running(&self, tag: Tag) -> bool {
        let State { places, .. } = &mut *self.state.borrow_mut();
        connection(places, tag.connection).is_some_and(|connection| connection.is_running(tag))
    }
}

/// Waits on this core until the affected commands that are at bdevs now have ended, for `limit` at
/// most; whether they have.
pub(crate) async fn drained(local: &Local, affected: &Affected, limit: Duration) -> bool {
    let Some(group) = local.service::<PollGroup>() else { return true };
    let mut left = group.running(affected);
    let end = local.now() + limit;
    loop {
        left.retain(|tag| group.is_running(*tag));
        if left.is_empty() || local.now() >= end {
            return left.is_empty();
        }
        local.sleep(STEP).await;
    }
}
