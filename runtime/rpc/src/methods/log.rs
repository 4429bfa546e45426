//! Log levels. SPDK's six correspond one to one to those of the `log` crate.

use alloc::string::String;

use log::LevelFilter;
use serde_json::Value;

use crate::{Context, Outcome, Params, Router, RpcError, When};

const LEVELS: [(&str, LevelFilter); 6] = [
    ("DISABLED", LevelFilter::Off),
    ("ERROR", LevelFilter::Error),
    ("WARNING", LevelFilter::Warn),
    ("NOTICE", LevelFilter::Info),
    ("INFO", LevelFilter::Debug),
    ("DEBUG", LevelFilter::Trace),
];

pub(super) fn register(router: &mut Router) {
    // One output, the serial console: the level of the log is that of what is printed.
    for name in ["log_set_level", "log_set_print_level"] {
        router.register(name, When::Any, set_level);
    }
    for name in ["log_get_level", "log_get_print_level"] {
        router.register(name, When::Any, get_level);
    }
}

fn set_level(_: Context, mut params: Params) -> Outcome {
    let level: String = params.required("level")?;
    params.finish()?;
    let known = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&level));
    let Some((_, filter)) = known else {
        return Err(RpcError::params(format_args!("'{level}' is not a log level")));
    };
    log::set_max_level(*filter);
    Ok(Value::Bool(true))
}

fn get_level(_: Context, params: Params) -> Outcome {
    params.none()?;
    let filter = log::max_level();
    let level = LEVELS.iter().find(|(_, level)| *level == filter);
    Ok(level.map_or(Value::Null, |(name, _)| Value::from(*name)))
}
