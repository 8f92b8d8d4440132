//! From a schedule that fails to the least of it that does (delta debugging: Zeller and Hildebrandt 2002, `ddmin`).

use crate::fault::Event;

/// The schedule without whatever is not needed for it to fail: no single event of what is left can be left out. An event
/// that goes leaves its time to the next one, so that the others stay where they are.
pub fn shrink(events: &[Event], mut fails: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
    let mut left = events.to_vec();
    let mut size = left.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < left.len() {
            let fewer = without(&left, at, size);
            if fails(&fewer) {
                left = fewer;
                smaller = true;
            } else {
                at += size;
            }
        }
        match (size, smaller) {
            (1, false) => return left,
            (1, true) => {}
            _ => size = size.div_ceil(2),
        }
    }
}

fn without(events: &[Event], from: usize, count: usize) -> Vec<Event> {
    let to = (from + count).min(events.len());
    let spare: u32 = events[from..to].iter().map(|event| event.after).sum();
    let mut left: Vec<Event> = [&events[..from], &events[to..]].concat();
    if let Some(next) = left.get_mut(from) {
        next.after += spare;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn what_is_left_is_what_it_takes_and_at_the_same_times() {
        let events: Vec<Event> = (0..50).map(|link| Event { after: 10, fault: Fault::Cut(link) }).collect();
        let has = |events: &[Event], link| events.iter().any(|event| event.fault == Fault::Cut(link));
        let mut tries = 0;
        let left = shrink(&events, |events| {
            tries += 1;
            has(events, 7) && has(events, 31) && has(events, 32)
        });
        let at = |after, link| Event { after, fault: Fault::Cut(link) };
        assert_eq!(left, [at(80, 7), at(240, 31), at(10, 32)]);
        assert!(tries < 150, "{tries}");
    }
}
