use super::*;
use crate::cli::AccelChoice;

pub(super) fn plan() -> Plan {
    Plan::new(&arguments()).unwrap()
}

fn arguments() -> BenchArguments {
    BenchArguments {
        hosted: false,
        bdev: None,
        config: None,
        workload: DEFAULT_WORKLOAD.to_owned(),
        rwmixread: 50,
        io_size: DEFAULT_IO_SIZE,
        cores: 1,
        time: 3.0,
        depths: Vec::new(),
        ios: None,
        disk: None,
        accel: AccelChoice::Tcg,
        skip_fio: true,
        t_io_uring: None,
        boot: false,
        idle: false,
        hammer: false,
        nvmf: false,
        json: false,
    }
}

#[test]
fn depths_are_sorted_and_measured_once() {
    assert_eq!(Plan::new(&arguments()).unwrap().depths, [1, 32]);
    let given = BenchArguments { depths: vec![8, 1, 8], ..arguments() };
    assert_eq!(Plan::new(&given).unwrap().depths, [1, 8]);
}

#[test]
fn what_cannot_be_measured_is_refused_with_its_option() {
    let refused = |arguments| Plan::new(&arguments).unwrap_err().to_string();
    assert!(refused(BenchArguments { time: 0.0, ..arguments() }).contains("--time"));
    assert!(refused(BenchArguments { time: f64::NAN, ..arguments() }).contains("--time"));
    assert!(refused(BenchArguments { ios: Some(0), ..arguments() }).contains("--ios"));
    let nvmf = BenchArguments { nvmf: true, ios: Some(1000), ..arguments() };
    assert!(refused(nvmf).contains("--hosted"));
    assert!(refused(BenchArguments { depths: vec![0], ..arguments() }).contains("--depth"));
    assert!(refused(BenchArguments { depths: vec![500], ..arguments() }).contains("--depth"));
}

#[test]
fn the_drive_without_a_medium_is_an_nvme_drive_on_one_core() {
    let text = machine(Path::new("/k"), Accel::Counted, None, 1).shell_command();
    for word in ["null-co", "-device nvme,", "-smp 1,maxcpus=2", "-icount shift=0,sleep=off"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
    assert!(!text.contains("thread=multi"), "{text}");
    let text = machine(Path::new("/k"), Accel::Tcg, Some(Path::new("/d")), 1).shell_command();
    assert!(text.contains("file=/d") && !text.contains("icount"), "{text}");
}

#[test]
fn fio_is_measured_with_the_default_io_only() {
    assert!(plan().job.is_default());
    let differs = |arguments| !Plan::new(&arguments).unwrap().job.is_default();
    assert!(differs(BenchArguments { workload: "randwrite".to_owned(), ..arguments() }));
    assert!(differs(BenchArguments { bdev: Some("Malloc0".to_owned()), ..arguments() }));
    assert!(differs(BenchArguments { io_size: 512, ..arguments() }));
    assert!(differs(BenchArguments { cores: 2, ..arguments() }));
}

#[test]
fn a_polling_peer_has_a_machine_of_two_cores_and_the_default_io_only() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let program = Some(file.path().to_path_buf());
    let given = BenchArguments { t_io_uring: program.clone(), ..arguments() };
    let polling = Plan::new(&given).unwrap();
    assert_eq!((polling.cpus, plan().cpus), (2, 1));
    let rests = |plan| {
        let config = calls::configuration(&plan, calls::Amount::Time);
        config["subsystems"][0]["config"][0]["params"]["rest"].clone()
    };
    assert_eq!((rests(polling), rests(plan())), (json!(true), json!(false)));
    let given = BenchArguments { t_io_uring: program, io_size: 512, ..arguments() };
    assert!(Plan::new(&given).unwrap_err().to_string().contains("--io-size"));
    let given = BenchArguments { t_io_uring: Some("/no/such".into()), ..arguments() };
    assert!(Plan::new(&given).unwrap_err().to_string().contains("make t/io_uring"));
}

#[test]
fn a_configuration_comes_before_the_benchmark() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"subsystems":[{"subsystem":"bdev","config":[]}]}"#).unwrap();
    let path = Some(file.path().to_path_buf());
    let plan = Plan::new(&BenchArguments { config: path, ..arguments() }).unwrap();
    let config = calls::configuration(&plan, calls::Amount::Ios(5));
    assert_eq!(config["subsystems"][0]["subsystem"], "bdev");
    let run = &config["subsystems"][1]["config"][1];
    assert_eq!((&run["method"], &run["params"]["ios"]), (&json!("bench_run"), &json!(5)));
}
