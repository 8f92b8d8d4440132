//! Mistakes that are put in on purpose are found, and what is left of the schedule is what it takes.

use simworld::{Defect, Failure, Fault, Scenario, Size, try_seed};

const HUB: usize = 0;
/// What the hubs withdraw is what it removes.
const SITE: usize = 2;

/// The first seed that finds it and needs no more than three events to show it.
fn found(router: usize, defect: Defect) -> Box<Failure> {
    let size = Size { regions: 1, sites: 3, origins: 3 };
    let scenario = |seed| Scenario { size: Some(size), planted: Some((router, defect)), ..Scenario::new(seed) };
    let failure = (0..10).filter_map(|seed| try_seed(scenario(seed), 3, 8).err()).find(|it| it.schedule.len() <= 3);
    let Some(failure) = failure else { panic!("{defect:?} is not found") };
    let scenario = failure.scenario;
    // It fails again, and without the mistake it does not.
    assert_eq!(scenario.play(&failure.schedule).unwrap_err().what, failure.shrunk.what);
    let sound = Scenario { planted: None, ..scenario };
    assert!(sound.play(&failure.schedule).is_ok(), "{failure}");
    // Nothing can be left out.
    for at in 0..failure.schedule.len() {
        let mut fewer = failure.schedule.clone();
        fewer.remove(at);
        assert!(scenario.play(&fewer).is_ok(), "event {at} is not needed: {failure}");
    }
    failure
}

#[test]
fn a_table_that_ignores_withdrawals_is_found() {
    let failure = found(SITE, Defect::KeepsRoutes);
    assert!(failure.shrunk.what.contains("forwards"), "a stale route: {failure}");
    // It says how to play it again.
    let text = failure.to_string();
    let Some(event) = failure.schedule.last() else { panic!("{text}") };
    let line = format!("Event {{ after: {}, fault: Fault::{:?} }},", event.after, event.fault);
    assert!(text.contains(&format!("seed {}", failure.scenario.seed)) && text.contains(&line), "{text}");
    assert!(!matches!(event.fault, Fault::Settle), "time passes at the end in any case: {text}");
}

#[test]
fn a_table_that_does_not_move_path_lists_is_found() {
    let failure = found(HUB, Defect::KeepsNexthops);
    assert!(!failure.schedule.is_empty(), "{failure}");
}

#[test]
fn a_table_that_fails_open_is_found_as_a_leak() {
    let failure = found(HUB, Defect::FailsOpen);
    assert!(failure.shrunk.what.contains("leaks") || failure.shrunk.what.contains("forwards"), "{failure}");
}
