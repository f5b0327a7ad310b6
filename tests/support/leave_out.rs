//! Making a list that fails smaller.

/// Leaves out parts of a list, large ones first, as long as what is left still fails.
pub fn leave_out<T: Clone>(mut list: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut part = list.len().div_ceil(2);
    while part > 0 {
        let mut at = 0;
        while at < list.len() {
            let mut candidate = list.clone();
            candidate.drain(at..(at + part).min(list.len()));
            if fails(&candidate) {
                list = candidate;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    list
}
