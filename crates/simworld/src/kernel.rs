//! The kernel's table of one router: it outlives the daemon that writes it.

use std::{
    cell::{Ref, RefCell, RefMut},
    rc::Rc,
};

use fib::{Backend, BackendError, Change, Refusal, Row, Twin};

/// A mistake that a test puts in, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Routes are not taken out although that is acknowledged.
    KeepsRoutes,
    /// Nexthop objects are not replaced although that is acknowledged.
    KeepsNexthops,
    /// A route that is to drop packets is taken out instead.
    FailsOpen,
}

/// A handle on the table; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Kernel {
    twin: Rc<RefCell<Twin>>,
    pub(crate) defect: Option<Defect>,
}

impl Kernel {
    pub(crate) fn twin(&self) -> Ref<'_, Twin> {
        self.twin.borrow()
    }

    pub(crate) fn twin_mut(&self) -> RefMut<'_, Twin> {
        self.twin.borrow_mut()
    }

    /// The router loses its power.
    pub(crate) fn clear(&self) {
        *self.twin.borrow_mut() = Twin::default();
    }

    fn fail(&self, defect: Defect, changes: &[Change]) -> Vec<Change> {
        let wrong = |change: &Change| match (defect, change) {
            (Defect::KeepsRoutes, Change::RemoveRoute(_)) => None,
            (Defect::KeepsNexthops, Change::ReplaceNexthop(..)) => None,
            (Defect::FailsOpen, Change::PutRoute(prefix, fib::Target::Through(id, _))) => {
                let twin = self.twin.borrow();
                let drops = changes
                    .iter()
                    .any(|other| matches!(other, Change::PutNexthop(put, fib::Nexthop::Blackhole(_)) if put == id));
                let there = twin.table().values().any(|found| found.is_blackhole());
                if drops || there { Some(Change::RemoveRoute(*prefix)) } else { Some(change.clone()) }
            }
            _ => Some(change.clone()),
        };
        changes.iter().filter_map(wrong).collect()
    }
}

impl Backend for Kernel {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Refusal>, BackendError> {
        match self.defect {
            None => self.twin.borrow_mut().apply(changes),
            Some(defect) => {
                let changes = self.fail(defect, changes);
                self.twin.borrow_mut().apply(&changes).map(|_| Vec::new())
            }
        }
    }

    fn start_dump(&mut self) -> Result<(), BackendError> {
        self.twin.borrow_mut().start_dump()
    }

    fn continue_dump(&mut self, rows: &mut Vec<Row>) -> Result<bool, BackendError> {
        self.twin.borrow_mut().continue_dump(rows)
    }
}
