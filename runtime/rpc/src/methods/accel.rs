//! SPDK's acceleration framework. The processor does here what other machines have engines for, so
//! there is one module.

use alloc::format;
use alloc::string::String;

use serde_json::{Map, Value, json};

use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// The module that does everything.
const SOFTWARE: &str = "software";

/// What is done, by SPDK's names.
const OPERATIONS: [&str; 5] = ["copy", "fill", "compare", "crc32c", "xor"];

pub(super) fn register(router: &mut Router) {
    router.register("accel_assign_opc", When::Startup, assign);
    router.register("accel_get_opc_assignments", When::Runtime, |_, params| {
        params.none()?;
        let mut assigned = Map::new();
        for name in OPERATIONS {
            assigned.insert(name.into(), SOFTWARE.into());
        }
        Ok(Value::Object(assigned))
    });
    router.register("accel_get_module_info", When::Runtime, |_, params| {
        params.none()?;
        Ok(json!([{"module": SOFTWARE, "supported ops": OPERATIONS}]))
    });
}

fn assign(cx: Context, mut params: Params) -> Outcome {
    let operation: String = params.required("opname")?;
    let module: String = params.required("module")?;
    params.finish()?;
    if !OPERATIONS.contains(&operation.as_str()) {
        let known = OPERATIONS.join(", ");
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
