//! What a machine answers about itself at one moment.

use serde_json::{Value, json};

use crate::rpc::Client;

/// The counters of a machine at one moment.
#[derive(Debug)]
pub struct Sample {
    /// The machine's time, ns.
    pub at_ns: u64,
    /// `framework_get_reactors`.
    pub reactors: Vec<Value>,
    /// `thread_get_pollers`.
    pub threads: Vec<Value>,
    /// `bdev_get_iostat`.
    pub bdevs: Vec<Value>,
    /// `nvmf_get_stats`.
    pub groups: Vec<Value>,
    /// `nvmf_subsystem_get_qpairs`, with the subsystem's name as `subsystem`.
    pub queues: Vec<Value>,
}

impl Sample {
    /// Asks the machine.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn take(client: &mut Client) -> anyhow::Result<Self> {
        let mut list = |method: &str, params: Value, name: &str| {
            let mut answer = client.call(method, params)?;
            let list = if name.is_empty() { &mut answer } else { &mut answer[name] };
            let list = list.as_array_mut().map(core::mem::take).unwrap_or_default();
            anyhow::Ok((list, answer["ticks"].as_u64()))
        };
        let (reactors, _) = list("framework_get_reactors", Value::Null, "reactors")?;
        let (threads, _) = list("thread_get_pollers", Value::Null, "threads")?;
        let (groups, _) = list("nvmf_get_stats", Value::Null, "poll_groups")?;
        let mut queues = Vec::new();
        for subsystem in list("nvmf_get_subsystems", Value::Null, "")?.0 {
            let nqn = &subsystem["nqn"];
            // It may have been deleted meanwhile.
            let of = list("nvmf_subsystem_get_qpairs", json!({"nqn": nqn}), "");
            for mut queue in of.map(|(queues, _)| queues).unwrap_or_default() {
                queue["subsystem"] = nqn.clone();
                queues.push(queue);
            }
        }
        let (bdevs, ticks) = list("bdev_get_iostat", Value::Null, "bdevs")?;
        Ok(Self { at_ns: ticks.unwrap_or(0), reactors, threads, bdevs, groups, queues })
    }
}
