use serde_json::{Value, json};

use super::*;

fn view() -> View {
    let sample = |seconds: u64| Sample {
        at_ns: seconds * 1_000_000_000,
        reactors: Vec::new(),
        threads: Vec::new(),
        bdevs: (0..9)
            .map(|n: u64| json!({"name": format!("Ram{n}"), "num_read_ops": n * seconds}))
            .collect::<Vec<Value>>(),
        groups: Vec::new(),
        queues: Vec::new(),
    };
    let mut view = View::new("127.0.0.1:5260".to_owned());
    view.samples = Some((sample(1), sample(2)));
    view
}

fn press(view: &mut View, code: KeyCode) -> Effect {
    view.on_event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn names(view: &mut View, height: usize) -> Vec<String> {
    let (lines, heading) = view.frame(80, height);
    let rows = lines[heading + 1..].iter();
    rows.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_section_is_chosen_by_its_number_and_shown_under_its_heading() {
    let mut view = view();
    assert_eq!(press(&mut view, KeyCode::Char('3')), Effect::Redraw);
    let (lines, heading) = view.frame(44, 24);
    assert_eq!(lines[0], "Basalt at 127.0.0.1:5260   1 Cores   2 Polle");
    assert_eq!(lines[heading], "BDEV  READS/s  WRITES/s  READ MiB/s  WRITE M");
    assert!(lines.iter().all(|line| line.chars().count() <= 44));
    assert_eq!(names(&mut view, 24).len(), 9);
    assert_eq!(press(&mut view, KeyCode::Tab), Effect::Redraw);
    assert_eq!(view.section, 3);
    assert_eq!(press(&mut view, KeyCode::Tab), Effect::Redraw);
    assert_eq!(view.section, 0);
}

#[test]
fn rows_are_sorted_and_scrolled_as_far_as_there_are_any() {
    let mut view = view();
    press(&mut view, KeyCode::Char('3'));
    assert_eq!(names(&mut view, 6), ["Ram0", "Ram1", "Ram2"]);
    press(&mut view, KeyCode::Char('s'));
    press(&mut view, KeyCode::Char('s'));
    assert_eq!(names(&mut view, 6), ["Ram8", "Ram7", "Ram6"]);
    press(&mut view, KeyCode::Char('r'));
    assert_eq!(names(&mut view, 6), ["Ram0", "Ram1", "Ram2"]);
    (0..50).for_each(|_| _ = press(&mut view, KeyCode::Down));
    assert_eq!(names(&mut view, 6), ["Ram6", "Ram7", "Ram8"]);
    press(&mut view, KeyCode::Up);
    assert_eq!(names(&mut view, 6), ["Ram5", "Ram6", "Ram7"]);
    // After the last column comes the order in which they came.
    (0..6).for_each(|_| _ = press(&mut view, KeyCode::Char('s')));
    assert_eq!(view.sorting[2].column, None);
}

#[test]
fn a_terminal_of_any_size_is_written_to_within_its_bounds() {
    for (width, height) in [(0, 0), (1, 1), (5, 2), (200, 3), (80, 4)] {
        let (lines, _) = view().frame(width, height);
        assert!(lines.len() <= height, "{width}x{height}");
        assert!(lines.iter().all(|line| line.chars().count() <= width));
    }
}

#[test]
fn several_keys_end_it() {
    let quit = [KeyCode::Char('q'), KeyCode::Esc].map(|code| press(&mut view(), code));
    assert_eq!(quit, [Effect::Quit; 2]);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view().on_event(&Event::Key(ctrl_c)), Effect::Quit);
    assert_eq!(press(&mut view(), KeyCode::Char('x')), Effect::Nothing);
    assert_eq!(view().on_event(&Event::Resize(10, 10)), Effect::Redraw);
}
