//! SPDK's acceleration framework. The processor does here what other machines have engines for, so
//! there is one module.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_metrics::Operation;
use serde_json::{Map, Value, json};

use super::object;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// What there is none of, as everything is done at once.
const NOT_THERE: [&str; 8] = [
    "sequence_executed",
    "sequence_failed",
    "sequence_outstanding",
    "task_outstanding",
    "retry_task",
    "retry_sequence",
    "retry_iobuf",
    "retry_bufdesc",
];

/// The module that does everything.
const SOFTWARE: &str = "software";

/// What is done, by SPDK's names.
fn operations() -> [&'static str; Operation::ALL.len()] {
    Operation::ALL.map(Operation::name)
}

pub(super) fn register(router: &mut Router) {
    router.register("accel_assign_opc", When::Startup, assign);
    router.register("accel_get_opc_assignments", When::Runtime, |_, params| {
        params.none()?;
        let mut assigned = Map::new();
        for name in operations() {
            assigned.insert(name.into(), SOFTWARE.into());
        }
        Ok(Value::Object(assigned))
    });
    router.register("accel_get_module_info", When::Runtime, |_, params| {
        params.none()?;
        Ok(json!([{"module": SOFTWARE, "supported ops": operations()}]))
    });
    router.register("accel_get_stats", When::Runtime, stats);
}

/// What was done of each operation that was. Nothing waits or is done in sequences.
fn stats(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let mut done = Vec::new();
    for operation in Operation::ALL {
        let stats = cx.local().mesh().operation(operation);
        if stats.executed > 0 {
            done.push(object(&mut [
                ("opcode", operation.name().into()),
                ("module_name", SOFTWARE.into()),
                ("executed", stats.executed.into()),
                ("failed", stats.failed.into()),
                ("num_bytes", stats.bytes.into()),
            ]));
        }
    }
    let mut answer = Map::new();
    for name in NOT_THERE {
        answer.insert(name.into(), 0.into());
    }
    answer.insert("operations".into(), done.into());
    Ok(Value::Object(answer))
}

fn assign(cx: Context, mut params: Params) -> Outcome {
    let operation: String = params.required("opname")?;
    let module: String = params.required("module")?;
    params.finish()?;
    if !operations().contains(&operation.as_str()) {
        let known = operations().join(", ");
        return Err(RpcError::params(format_args!(
            "'opname' is one of {known}, not '{operation}'"
        )));
    }
    if module != SOFTWARE {
        let message = format_args!("'module': there is '{SOFTWARE}' only, not '{module}'");
        return Err(RpcError::errno(errno::EOPNOTSUPP, message));
    }
    cx.remember("accel", format!("assign {operation}"));
    Ok(Value::Bool(true))
}
