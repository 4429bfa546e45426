//! Sends the log to a syslog server, once `log_set_syslog` names one: a datagram for each line
//! (RFC 5424, RFC 5426).
//!
//! It reads the log as anybody does, on the boot core and in a task of its own. What logs never
//! waits for it, and it never waits for a server.

mod forward;
mod message;
#[cfg(test)]
mod tests;

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;

use basalt_env::{LogLine, log_lines, log_lines_count, log_lines_lost};
use basalt_net::{ConnectError, NetHandle};
use basalt_reactor::Local;
use basalt_reactor::sync::Notify;
use basalt_rpc::methods::{SyslogControl, SyslogSetting};
use basalt_rpc::{RpcError, errno};

use self::forward::{Forwarder, Lines, Step, TARGET};

/// How often to look for lines.
const PERIOD: Duration = Duration::from_millis(100);
/// How long to leave the network to send what was queued.
const BREATH: Duration = Duration::from_millis(2);

/// The log of this program.
struct Log;

impl Lines for Log {
    fn count(&self) -> u64 {
        log_lines_count()
    }

    fn from(&self, since: u64) -> Vec<LogLine> {
        log_lines(since)
    }

    fn lost(&self) -> u64 {
        log_lines_lost()
    }
}

/// What the task and the control plane share.
struct Shared {
    local: Local,
    forwarder: RefCell<Forwarder>,
    changed: Notify,
}

/// Starts it on this core, the boot core, with nothing to do: [`SyslogControl`] is its service.
/// `started_at` is the time of day when the clock started, in seconds since 1970, if it is known.
pub fn start(local: &Local, started_at: Option<u64>) {
    let shared = Rc::new(Shared {
        local: local.clone(),
        forwarder: RefCell::new(Forwarder::new(started_at)),
        changed: Notify::new(),
    });
    let (setting, state) = (Rc::clone(&shared), Rc::clone(&shared));
    let set = move |to| setting.set(to);
    let get = move || state.forwarder.borrow().state();
    local.provide(Rc::new(SyslogControl::new(set, get)));
    local.spawn_background("syslog", async move { shared.run().await });
}

impl Shared {
    async fn run(&self) {
        loop {
            if !self.forwarder.borrow().is_set() {
                self.changed.notified().await;
            }
            let pause = match self.step() {
                Step::Full => BREATH,
                Step::Done | Step::Stuck => PERIOD,
            };
            self.local.sleep(pause).await;
        }
    }

    fn step(&self) -> Step {
        let Some(net) = self.local.service::<NetHandle>() else { return Step::Stuck };
        self.forwarder.borrow_mut().step(&Log, &mut *net.stack().borrow_mut())
    }

    fn set(&self, setting: Option<SyslogSetting>) -> Result<(), RpcError> {
        let Some(net) = self.local.service::<NetHandle>() else {
            let message = "there is no network to send the log over";
            return Err(RpcError::errno(errno::ENODEV, message));
        };
        let stack = net.stack();
        let open = |setting: SyslogSetting| {
            let opened = stack.borrow_mut().open_datagrams(setting.server);
            opened.map(|id| (id, setting)).map_err(|error| match error {
                ConnectError::NoRoom => RpcError::errno(errno::ENOMEM, format_args!("{error}")),
                ConnectError::BadAddress | ConnectError::NoAddress => {
                    RpcError::params("'address' is one of our own, or nothing can be sent there")
                }
            })
        };
        let to = setting.map(open).transpose()?;
        match &to {
            Some((_, SyslogSetting { server, .. })) => {
                log::info!(target: TARGET, "the log is sent to {server} (UDP)");
            }
            None => log::info!(target: TARGET, "the log is sent nowhere"),
        }
        let before = self.forwarder.borrow_mut().send_to(to);
        before.into_iter().for_each(|id| stack.borrow_mut().close_datagrams(id));
        self.changed.notify_one();
        Ok(())
    }
}
