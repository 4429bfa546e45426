//! `cargo run -- bench`: Basalt's block layer beside fio on Linux, on the same virtual machine; or
//! any bdev with any of bdevperf's workloads, there or in the hosted twin ([`hosted`]).
//!
//! 1. *Rates and latencies*: the image runs its own benchmark (`bench_run`, in `boot/image`) on one
//!    core; Linux runs fio with io_uring, alone on one core. Both warm up first, and both count a
//!    latency from submission to completion.
//!    Instead of fio it can be fio's `t/io_uring`, polled ([`uring`]).
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
mod calls;
mod fio;
mod guest;
mod hosted;
mod idle;
mod image;
mod nvmf;
mod report;
mod uring;
mod wire;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::accel::{self, Accel};
use serde_json::{Value, json};

use crate::cli::{BenchArguments, DEFAULT_IO_SIZE, DEFAULT_WORKLOAD};
use crate::{Machine, Workspace, config, disk, packages};

use hosted::Twin;
use report::{Figures, Peer, Place, Report};

/// Size of the drive without a medium.
const NULL_SIZE_BYTES: u64 = 1 << 30;

/// What is measured before it counts, so that everything has been translated and cached.
const WARMUP: Duration = Duration::from_millis(500);

/// The bdev of the image's only drive.
const IMAGE_BDEV: &str = "Nvme0n1";

/// What the hosted twin has unless a configuration says otherwise.
const HOSTED_BDEV: &str = "Null0";

/// The most I/Os in flight: what the image's queues and fio's ring both hold.
const DEPTH_MAX: u32 = 128;

/// I/Os over which instructions are counted.
const DEFAULT_IOS: u64 = 20_000;

/// What is to be measured.
#[derive(Clone, Debug)]
struct Plan {
    job: Job,
    depths: Vec<u32>,
    time: Duration,
    /// I/Os of a run that counts instructions.
    ios: u64,
    /// The machine's cores.
    cpus: u32,
}

impl Plan {
    fn new(arguments: &BenchArguments) -> anyhow::Result<Self> {
        let seconds = arguments.time;
        ensure!((0.1..=60.0).contains(&seconds), "--time {seconds}: give 0.1 to 60 seconds");
        let ios = arguments.ios.unwrap_or(DEFAULT_IOS);
        ensure!(
            arguments.ios.is_none() || !arguments.nvmf || arguments.hosted,
            "--ios: with --nvmf it says something of the hosted twin only; add --hosted"
        );
        ensure!((100..=1_000_000).contains(&ios), "--ios {ios}: give a number from 100 to 1000000");
        let mut depths = arguments.depths.clone();
        if depths.is_empty() {
            depths = if arguments.nvmf { vec![1, 32, 128] } else { vec![1, 32] };
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
        let job = Job::new(arguments)?;
        ensure!(
            arguments.t_io_uring.is_none() || job.is_default(),
            "--t-io-uring: it measures random reads of 4096 bytes of the drive alone; leave out \
             --bdev, --config, --workload, --io-size and --cores"
        );
        if let Some(path) = &arguments.t_io_uring {
            ensure!(
                path.is_file(),
                "--t-io-uring {}: there is no such file; fio's source tree makes it, by \
                 ./configure --build-static && make t/io_uring",
                path.display()
            );
        }
        // A program that polls has a core besides what else there is to do.
        let cpus = if arguments.t_io_uring.is_some() { job.cores.max(2) } else { job.cores };
        Ok(Self { cpus, job, depths, time: Duration::from_secs_f64(seconds), ios })
    }
}

/// The I/O that is measured. Which workloads there are, `bench_run` knows.
#[derive(Clone, Debug)]
struct Job {
    bdev: String,
    workload: String,
    read_percent: u8,
    io_size: u32,
    cores: u32,
    /// What is configured first: the bdevs.
    subsystems: Vec<Value>,
}

impl Job {
    fn new(arguments: &BenchArguments) -> anyhow::Result<Self> {
        let cores = arguments.cores;
        ensure!((1..=64).contains(&cores), "--cores {cores}: give a number from 1 to 64");
        let subsystems = match (&arguments.config, arguments.hosted) {
            (Some(path), _) => config::read(path)?,
            (None, true) => vec![null_bdev()],
            (None, false) => Vec::new(),
        };
        let bdev = if arguments.hosted { HOSTED_BDEV } else { IMAGE_BDEV };
        Ok(Self {
            bdev: arguments.bdev.clone().unwrap_or_else(|| bdev.to_owned()),
            workload: arguments.workload.clone(),
            read_percent: arguments.rwmixread,
            io_size: arguments.io_size,
            cores,
            subsystems,
        })
    }

    /// Whether it is what fio is told to do.
    fn is_default(&self) -> bool {
        let same = self.bdev == IMAGE_BDEV && self.workload == DEFAULT_WORKLOAD;
        same && self.io_size == DEFAULT_IO_SIZE && self.cores == 1
    }
}

/// A bdev without a medium, for the hosted twin.
fn null_bdev() -> Value {
    let blocks = NULL_SIZE_BYTES / 512;
    let params = json!({"name": HOSTED_BDEV, "num_blocks": blocks, "block_size": 512});
    let call = json!({"method": "bdev_null_create", "params": params});
    json!({"subsystem": "bdev", "config": [call]})
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
    if arguments.hosted && arguments.nvmf {
        let report = nvmf::hosted::run(workspace, &plan)?;
        print_either(&report, report.to_json(), arguments);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.hosted {
        return run_hosted(workspace, plan, arguments);
    }
    packages::ensure_qemu(workspace)?;
    let accel = accel::choose(workspace, arguments.accel)?;
    if arguments.boot || arguments.idle || arguments.nvmf {
        return run_whole(workspace, accel, &plan, arguments);
    }
    let (kernel, _) = workspace.build_image()?;
    let basalt = |accel| Ok(machine(&kernel, accel, arguments.disk.as_deref(), plan.cpus));
    let (rates, count) = (image::rates, image::instructions);
    let measured = measure(&plan, accel, "Basalt", basalt, rates, count)?;
    let alone = arguments.skip_fio || !plan.job.is_default();
    let peer = if alone { None } else { Some(linux(workspace, &plan, accel, arguments)?) };
    let place = Place::Machine { accel, disk: arguments.disk.clone() };
    print(&Report { place, plan, basalt: measured, peer }, arguments);
    Ok(ExitCode::SUCCESS)
}

/// Measures the hosted twin.
fn run_hosted(
    workspace: &Workspace,
    plan: Plan,
    arguments: &BenchArguments,
) -> anyhow::Result<ExitCode> {
    let twin = Twin::build(workspace)?;
    let began = Instant::now();
    eprint!("rates and latencies …");
    let mut measured = twin.rates(&plan)?;
    eprint!(" {:.0} s; instructions …", began.elapsed().as_secs_f32());
    let counted = twin.instructions(&plan);
    eprintln!(" {:.0} s", began.elapsed().as_secs_f32());
    note_instructions(&mut measured, counted, "Basalt");
    print(&Report { place: Place::Host, plan, basalt: measured, peer: None }, arguments);
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, arguments: &BenchArguments) {
    print_either(report, report.to_json(), arguments);
}

/// Measures the machine as a whole rather than its I/O.
fn run_whole(
    workspace: &Workspace,
    accel: Accel,
    plan: &Plan,
    arguments: &BenchArguments,
) -> anyhow::Result<ExitCode> {
    let files = match arguments.skip_fio || arguments.hammer {
        true => None,
        false => {
            let files = crate::linux::Files::make(workspace);
            Some(files.context("no files for the Linux guest")?)
        }
    };
    let (text, json) = if arguments.hammer {
        let report = nvmf::hammer::run(workspace, plan, accel)?;
        (report.to_string(), report.to_json())
    } else if arguments.nvmf {
        let report = nvmf::run(workspace, plan, accel, files.as_ref())?;
        (report.to_string(), report.to_json())
    } else if arguments.boot {
        let report = boot::run(workspace, accel, files.as_ref())?;
        (report.to_string(), report.to_json())
    } else {
        let report = idle::run(workspace, accel, files.as_ref())?;
        (report.to_string(), report.to_json())
    };
    print_either(&text, json, arguments);
    Ok(ExitCode::SUCCESS)
}

fn print_either(text: &dyn std::fmt::Display, json: Value, arguments: &BenchArguments) {
    if arguments.json {
        println!("{json}");
    } else {
        print!("{text}");
    }
}

fn linux(
    workspace: &Workspace,
    plan: &Plan,
    accel: Accel,
    arguments: &BenchArguments,
) -> anyhow::Result<Peer> {
    let files = crate::linux::Files::make(workspace).context("no files for the Linux guest")?;
    let linux = |accel| {
        let mut machine = machine(files.kernel(), accel, arguments.disk.as_deref(), plan.cpus);
        machine.memory_mib = 1024;
        machine
    };
    if let Some(program) = &arguments.t_io_uring {
        eprintln!("t/io_uring: rates …");
        let figures = uring::rates(linux(accel), &files, plan, program)?;
        return Ok(Peer { name: "t/io_uring", figures });
    }
    let linux = |accel| Ok((linux(accel), &files));
    let figures = measure(plan, accel, "fio", linux, fio::rates, fio::instructions)?;
    Ok(Peer { name: "fio", figures })
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
    note_instructions(&mut figures, counted, name);
    Ok(figures)
}

/// Puts the instructions with the rates, which took their time and stand for themselves if nothing
/// could be counted.
fn note_instructions(figures: &mut [Figures], counted: anyhow::Result<Vec<u64>>, name: &str) {
    match counted {
        Ok(counted) => {
            for (figures, counted) in figures.iter_mut().zip(counted) {
                figures.instructions = Some(counted);
            }
        }
        Err(error) => eprintln!("warning: {name}'s instructions could not be counted: {error:#}"),
    }
}

/// The cores and the drive.
fn machine(kernel: &Path, accel: Accel, disk: Option<&Path>, cpus: u32) -> Machine {
    let mut machine = Machine::new(kernel, accel);
    machine.cpus = cpus;
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
