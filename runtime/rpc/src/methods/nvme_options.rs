//! What NVMe controllers are told of how to choose among queues.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_nvme_spec::{Arbitration, QueuePriority};
use basalt_nvmf_initiator::{Loss, Policy, Reconnect};
use serde_json::{Map, Value, json};

use super::nvme_remote;
use crate::{Context, Outcome, Params, Router, RpcError, When};

/// The method that sets them.
pub(crate) const METHOD: &str = "bdev_nvme_set_options";

/// How controllers that are attached from now on share themselves among the cores' queues: a
/// service of the boot core once that was set by `bdev_nvme_set_options`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NvmeOptions {
    /// Burst and weights. As in SPDK, a burst of 0 is the controller's own, and all zero leaves
    /// everything to the controller.
    pub arbitration: Arbitration,
    /// The cores whose queues have a priority of their own.
    pub priorities: Vec<(CoreId, QueuePriority)>,
    /// What is used of remote controllers that say nothing else.
    pub remote: RemoteDefaults,
}

/// What is used of controllers of other machines; of what was not set, the initiator's default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RemoteDefaults {
    /// `keep_alive_timeout_ms`.
    pub keep_alive: Option<Duration>,
    /// `timeout_us`: how long an Io may take; 0 for any time.
    pub io_timeout: Option<Option<Duration>>,
    /// `ctrlr_loss_timeout_sec`, `reconnect_delay_sec`, `fast_io_fail_timeout_sec`.
    pub reconnect: Option<Reconnect>,
    /// `multipath_opts`.
    pub policy: Option<Policy>,
    /// `io_path_stat`: whether what goes by each path is counted.
    pub io_path_stat: bool,
}

impl RemoteDefaults {
    fn with(self, params: &mut Params) -> Result<Self, RpcError> {
        const NONE: Reconnect = Reconnect {
            loss: Loss::After(Duration::ZERO),
            delay: Duration::ZERO,
            fast_io_fail: None,
        };
        let keep_alive: Option<u64> = params.optional("keep_alive_timeout_ms")?;
        let io_timeout: Option<u64> = params.optional("timeout_us")?;
        let io_timeout = io_timeout.map(|us| (us > 0).then(|| Duration::from_micros(us)));
        let reconnect = nvme_remote::read_reconnect(params, self.reconnect.unwrap_or(NONE))?;
        Ok(Self {
            keep_alive: keep_alive.map(Duration::from_millis).or(self.keep_alive),
            io_timeout: io_timeout.or(self.io_timeout),
            reconnect: reconnect.or(self.reconnect),
            policy: nvme_remote::read_multipath_opts(params)?.or(self.policy),
            io_path_stat: params.optional("io_path_stat")?.unwrap_or(self.io_path_stat),
        })
    }

    /// Puts what was set into the parameters of a call, by SPDK's names.
    fn put(&self, params: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Value| drop(params.insert(name.into(), value));
        if let Some(time) = self.keep_alive {
            put("keep_alive_timeout_ms", json!(time.as_millis() as u64));
        }
        if let Some(limit) = self.io_timeout {
            put("timeout_us", json!(limit.map_or(0, |limit| limit.as_micros() as u64)));
        }
        if let Some(Reconnect { loss, delay, fast_io_fail }) = self.reconnect {
            let loss = match loss {
                Loss::Never => -1,
                Loss::After(limit) => limit.as_secs() as i64,
            };
            put("ctrlr_loss_timeout_sec", json!(loss));
            put("reconnect_delay_sec", json!(delay.as_secs()));
            let fast = fast_io_fail.map_or(0, |limit| limit.as_secs());
            put("fast_io_fail_timeout_sec", json!(fast));
        }
        if self.io_path_stat {
            put("io_path_stat", json!(true));
        }
        if let Some(policy) = self.policy {
            put("multipath_opts", nvme_remote::policy_to_json(policy));
        }
    }
}

impl NvmeOptions {
    /// The same with what `params` change of it. What does not concern it is left in `params`.
    pub(crate) fn with(mut self, params: &mut Params) -> Result<Self, RpcError> {
        for (name, value) in numbers(&mut self.arbitration) {
            *value = params.optional(name)?.unwrap_or(*value);
        }
        let burst = self.arbitration.burst;
        if burst > Arbitration::BURST_UNLIMITED {
            return Err(RpcError::params(format_args!(
                "'arbitration_burst' is a power of two from 0 to 6, or 7 for no limit, not {burst}"
            )));
        }
        if let Some(priorities) = params.objects("priorities")? {
            self.priorities = read_priorities(priorities)?;
        }
        self.remote = self.remote.with(params)?;
        Ok(self)
    }

    /// The same, unless it is of a core that a machine of so many does not have.
    pub(crate) fn fit(self, cores: usize) -> Result<Self, RpcError> {
        match self.priorities.iter().find(|(core, _)| core.index() >= cores) {
            Some((core, _)) => {
                Err(RpcError::params(format_args!("there are {cores} cores, none {core}")))
            }
            None => Ok(self),
        }
    }

    /// Puts what is not as it is without any call into the parameters of one.
    fn put(&self, params: &mut Map<String, Value>) {
        let mut arbitration = self.arbitration;
        for (name, value) in numbers(&mut arbitration).into_iter().filter(|(_, value)| **value != 0)
        {
            params.insert(name.into(), (*value).into());
        }
        self.remote.put(params);
        if self.priorities.is_empty() {
            return;
        }
        let priorities = self.priorities.iter();
        let list = priorities.map(|(core, priority)| {
            let priority = name(*priority);
            json!({"core": core.0, "priority": priority})
        });
        params.insert("priorities".into(), list.collect());
    }
}

/// Burst and weights by the names of their parameters.
fn numbers(arbitration: &mut Arbitration) -> [(&'static str, &mut u8); 4] {
    let Arbitration { burst, low, medium, high } = arbitration;
    [
        ("arbitration_burst", burst),
        ("low_priority_weight", low),
        ("medium_priority_weight", medium),
        ("high_priority_weight", high),
    ]
}

fn read_priorities(priorities: Vec<Params>) -> Result<Vec<(CoreId, QueuePriority)>, RpcError> {
    let mut read: Vec<(CoreId, QueuePriority)> = Vec::new();
    for mut params in priorities {
        let core = CoreId(params.required("core")?);
        let text: String = params.required("priority")?;
        params.finish()?;
        let known = PRIORITIES.into_iter().find(|priority| name(*priority) == text);
        let priority = known.ok_or_else(|| {
            let wanted = "'priority' is 'urgent', 'high', 'medium' or 'low'";
            RpcError::params(format_args!("{wanted}, not '{text}'"))
        })?;
        if read.iter().any(|(other, _)| *other == core) {
            return Err(RpcError::params(format_args!("core {core} is given two priorities")));
        }
        read.push((core, priority));
    }
    Ok(read)
}

const PRIORITIES: [QueuePriority; 4] =
    [QueuePriority::Urgent, QueuePriority::High, QueuePriority::Medium, QueuePriority::Low];

const fn name(priority: QueuePriority) -> &'static str {
    match priority {
        QueuePriority::Urgent => "urgent",
        QueuePriority::High => "high",
        QueuePriority::Medium => "medium",
        QueuePriority::Low => "low",
    }
}

pub(super) fn register(router: &mut Router) {
    router.register(METHOD, When::Any, set_options);
}

fn set_options(cx: Context, mut params: Params) -> Outcome {
    let local = cx.local();
    let now = local.service::<NvmeOptions>().map_or_else(Default::default, |now| (*now).clone());
    let options = now.with(&mut params)?;
    params.leave()?;
    let options = options.fit(local.cores())?;
    log::info!(
        target: "rpc",
        "{METHOD}: arbitration, times, paths and their counting are those of controllers attached \
         from now on; the rest has no effect here and is kept for saving"
    );
    let mut saved = cx.params();
    options.put(&mut saved);
    cx.remember_as("bdev", format!("options {METHOD}"), saved);
    local.provide(Rc::new(options));
    Ok(Value::Bool(true))
}
