//! Log levels and flags. SPDK's six levels correspond one to one to those of the `log` crate.

use alloc::string::String;

use basalt_env::{LOG_FLAGS, clear_log_flag, log_flag, set_log_flag};
use log::LevelFilter;
use serde_json::{Map, Value};

use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

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
    router.register("log_get_flags", When::Any, get_flags);
    router.register("log_set_flag", When::Any, |_, params| change_flag(params, set_log_flag));
    router.register("log_clear_flag", When::Any, |_, params| change_flag(params, clear_log_flag));
    router.register("log_enable_timestamps", When::Any, enable_timestamps);
}

/// Unlike those of SPDK, all are set at first: the level alone says how much is logged.
fn get_flags(_: Context, params: Params) -> Outcome {
    params.none()?;
    let mut flags = Map::new();
    for (index, name) in LOG_FLAGS.iter().enumerate() {
        flags.insert((*name).into(), log_flag(index).into());
    }
    Ok(Value::Object(flags))
}

fn change_flag(mut params: Params, change: fn(usize)) -> Outcome {
    let flag: String = params.required("flag")?;
    params.finish()?;
    let wanted: fn(&str, &str) -> bool = match flag.as_str() {
        "all" => |_, _| true,
        _ => |name, flag| name == flag,
    };
    let mut indices = (0..).zip(LOG_FLAGS).filter(|(_, name)| wanted(name, &flag)).peekable();
    if indices.peek().is_none() {
        let known = LOG_FLAGS.join(", ");
        return Err(RpcError::params(format_args!("'flag' is 'all' or one of {known}")));
    }
    indices.for_each(|(index, _)| change(index));
    Ok(Value::Bool(true))
}

/// Each line has its time, which is how lines of several cores are put in order.
fn enable_timestamps(_: Context, mut params: Params) -> Outcome {
    let enabled: bool = params.required("enabled")?;
    params.finish()?;
    if !enabled {
        let message = "the times of log lines cannot be left out";
        return Err(RpcError::errno(errno::EOPNOTSUPP, message));
    }
    Ok(Value::Bool(true))
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
