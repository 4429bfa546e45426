//! Has every core call every other one, so that a core that does not answer is known at the start
//! and not at the first request that needs it.

use core::time::Duration;

use basalt_env::CoreId;
use basalt_reactor::Local;

/// How long a core may take to answer before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// Goes through all pairs of cores and logs for each core how many answered it.
pub async fn run(local: &Local) {
    let cores = local.cores();
    for caller in ids(cores) {
        let asked = local.run_on(caller, move |local| count_answers(local, cores));
        match local.timeout(PATIENCE * 2, asked).await {
            Ok(Ok(answers)) if answers == cores => {
                log::info!(target: "basalt", "core {caller}: all {cores} cores answer it");
            }
            Ok(Ok(answers)) => {
                log::error!(target: "basalt", "core {caller}: only {answers} of {cores} answer it");
            }
            _ => log::error!(target: "basalt", "core {caller} does not answer"),
        }
    }
}

async fn count_answers(local: Local, cores: usize) -> usize {
    let mut answers = 0;
    for other in ids(cores) {
        let call = local.call(other, |there| there.core());
        let answer = local.timeout(PATIENCE, call).await;
        answers += usize::from(matches!(answer, Ok(Ok(core)) if core == other));
    }
    answers
}

/// The cores in order.
pub fn ids(cores: usize) -> impl Iterator<Item = CoreId> {
    (0..cores).map(|core| CoreId(core as u16))
}
