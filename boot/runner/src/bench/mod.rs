//! `cargo run -- bench`: Basalt's block layer beside fio on Linux, on the same virtual machine.
//!
//! 1. *Rates and latencies*: the image runs its own benchmark (`bench_run`, in `boot/image`) on one
//!    core; Linux runs fio with io_uring, alone on one core. Both warm up first, and both count a
//!    latency from submission to completion.
//! 2. *Instructions per I/O*: both again under QEMU's `-icount shift=0`, where the guest's clock
//!    advances by a nanosecond with every instruction. What either only spends waiting is left out:
//!    in the image the rounds of its loop that find nothing, in Linux the idle loop.
//!
//! For Linux that means: its idle loop polls (`idle=poll`), so that the processor never halts and
//! no time passes but by instructions; `/proc/timer_list` tells the time and how much of it was
//! idle, to the nanosecond; and of two fio runs of different length the difference is taken, which
//! leaves out fio's start. Interrupts count. fio is told not to take times then
//! (`gtod_reduce`), in its favour.

mod beside;
mod boot;
mod fio;
mod guest;
mod idle;
mod image;
mod report;
mod wire;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::accel::{self, Accel};
use crate::cli::BenchArguments;
use crate::{Machine, Workspace, disk, packages};

use report::{Figures, Report};

/// Size of the drive without a medium.
const NULL_SIZE_BYTES: u64 = 1 << 30;

/// What is measured before it counts, so that everything has been translated and cached.
const WARMUP: Duration = Duration::from_millis(500);

/// Size of each I/O in bytes.
const IO_SIZE_BYTES: u32 = 4096;

/// The most I/Os in flight: what the image's queues and fio's ring both hold.
const DEPTH_MAX: u32 = 128;

/// What is to be measured.
#[derive(Clone, Debug)]
struct Plan {
    depths: Vec<u32>,
    time: Duration,
    /// I/Os of a run that counts instructions.
    ios: u64,
}

impl Plan {
    fn new(arguments: &BenchArguments) -> anyhow::Result<Self> {
        let seconds = arguments.time;
        ensure!((0.1..=60.0).contains(&seconds), "--time {seconds}: give 0.1 to 60 seconds");
        let ios = arguments.ios;
        ensure!((100..=1_000_000).contains(&ios), "--ios {ios}: give a number from 100 to 1000000");
        let mut depths = arguments.depths.clone();
        if depths.is_empty() {
            depths = vec![1, 32];
        }
        depths.sort_unstable();
        depths.dedup();
        for depth in &depths {
            ensure!(
                (1..=DEPTH_MAX).contains(depth),
                "--depth {depth}: give a number from 1 to {DEPTH_MAX}"
            );
        }
        ensure!(depths.len() <= 8, "--depth: give at most 8 of them");
        Ok(Self { depths, time: Duration::from_secs_f64(seconds), ios })
    }
}

/// Builds, measures and prints.
///
/// # Errors
/// A wrong option, or a guest that did not come to its end; its console is then in the error.
pub(crate) fn run(workspace: &Workspace, arguments: &BenchArguments) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(arguments)?;
    if let Some(path) = &arguments.disk {
        disk::check_all(std::slice::from_ref(path))?;
    }
    packages::ensure_qemu(workspace)?;
    let accel = accel::choose(workspace, arguments.accel)?;
    if arguments.boot || arguments.idle {
        return run_whole(workspace, accel, arguments);
    }
    let (kernel, _) = workspace.build_image()?;
    let basalt = |accel| Ok(machine(&kernel, accel, arguments.disk.as_deref()));
    let measured = measure(&plan, accel, "Basalt", basalt, image::rates, image::instructions)?;
    let fio =
        if arguments.skip_fio { None } else { Some(linux(workspace, &plan, accel, arguments)?) };
    let report = Report { accel, plan, disk: arguments.disk.clone(), basalt: measured, fio };
    if arguments.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures the machine as a whole rather than its I/O.
fn run_whole(
    workspace: &Workspace,
    accel: Accel,
    arguments: &BenchArguments,
) -> anyhow::Result<ExitCode> {
    let files = match arguments.skip_fio {
        true => None,
        false => {
            let files = crate::linux::Files::make(workspace);
            Some(files.context("no files for the Linux guest")?)
        }
    };
    let (text, json) = if arguments.boot {
        let report = boot::run(workspace, accel, files.as_ref())?;
        (report.to_string(), report.to_json())
    } else {
        let report = idle::run(workspace, accel, files.as_ref())?;
        (report.to_string(), report.to_json())
    };
    if arguments.json {
        println!("{json}");
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

fn linux(
    workspace: &Workspace,
    plan: &Plan,
    accel: Accel,
    arguments: &BenchArguments,
) -> anyhow::Result<Vec<Figures>> {
    let files = crate::linux::Files::make(workspace).context("no files for the Linux guest")?;
    let linux = |accel| {
        let mut machine = machine(files.kernel(), accel, arguments.disk.as_deref());
        machine.memory_mib = 1024;
        Ok((machine, &files))
    };
    measure(plan, accel, "fio", linux, fio::rates, fio::instructions)
}

/// Measures one side: its rates as fast as it goes, then its instructions.
fn measure<M>(
    plan: &Plan,
    accel: Accel,
    name: &str,
    machine: impl Fn(Accel) -> anyhow::Result<M>,
    rates: impl FnOnce(M, &Plan) -> anyhow::Result<Vec<Figures>>,
    instructions: impl FnOnce(M, &Plan) -> anyhow::Result<Vec<u64>>,
) -> anyhow::Result<Vec<Figures>> {
    let began = Instant::now();
    eprint!("{name}: rates and latencies …");
    let mut figures = rates(machine(accel)?, plan)?;
    eprint!(" {:.0} s; instructions …", began.elapsed().as_secs_f32());
    let counted = instructions(machine(Accel::Counted)?, plan);
    eprintln!(" {:.0} s", began.elapsed().as_secs_f32());
    match counted {
        Ok(counted) => {
            for (figures, counted) in figures.iter_mut().zip(counted) {
                figures.instructions = Some(counted);
            }
        }
        // The rates took their time and stand for themselves.
        Err(error) => eprintln!("warning: {name}'s instructions could not be counted: {error:#}"),
    }
    Ok(figures)
}

/// One core and the drive.
fn machine(kernel: &Path, accel: Accel, disk: Option<&Path>) -> Machine {
    let mut machine = Machine::new(kernel, accel);
    machine.cpus = 1;
    match disk {
        Some(path) => {
            machine.disks.push(crate::Disk { path: path.to_path_buf(), direct: false });
        }
        None => machine.extra.extend(null_drive()),
    }
    machine
}

/// A drive that answers at once with zeroes, so that software is what is measured.
fn null_drive() -> [OsString; 4] {
    let backend = format!("driver=null-co,node-name=null0,read-zeroes=on,size={NULL_SIZE_BYTES}");
    let device = "nvme,id=nvme0,serial=basalt-null,drive=null0".to_owned();
    ["-blockdev".to_owned(), backend, "-device".to_owned(), device].map(OsString::from)
}

#[cfg(test)]
mod tests;
