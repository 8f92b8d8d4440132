//! What has become due on an IKE SA in use.

use super::{Link, NAT_KEEPALIVE};
use crate::{
    event::DownCause,
    io::Output,
    sa::{Cx, IkeSa, News, Stage, channel::send, child::superfluous, exchange::Task, window::Due},
    tunnel::Phase,
};

impl IkeSa {
    pub(in crate::sa) fn established_timeout(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        let alive = established.alive_at();
        let rival = established.rival();
        match established.channel.window.due(cx.now, rival.is_none().then_some(alive)) {
            Due::Nothing => {}
            Due::Again(packets) => send(&self.path, &packets, cx.out),
            // It lives, and on its own rekey's SA: it has forgotten this one.
            Due::GiveUp { waited } if rival.is_some() && alive + waited > cx.now => {
                return rival.into_iter().for_each(|rival| self.elect(cx, rival));
            }
            Due::GiveUp { .. } => {
                let silent_for = cx.now.saturating_duration_since(established.alive_at());
                let cause = match established.link {
                    Link::Lost => DownCause::LinkDown,
                    Link::Fine | Link::Back => DownCause::DpdTimeout { silent_for },
                };
                return self.lose(cx, cause);
            }
        }
        if cx.now >= established.hard_at {
            return self.close(cx, DownCause::RekeyFailed);
        }
        if established.undecided && cx.now >= established.decided_by() {
            // Now it is asked whether it lives, like any other.
            established.undecided = false;
            cx.news.push(News::Changed);
        }
        if established.link == Link::Lost || established.undecided {
            return;
        }
        if established.reauth_at.is_some_and(|at| cx.now >= at) {
            self.reauth_due(cx);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        if established.reroute_at().is_some_and(|at| cx.now >= at) {
            self.reroute(cx);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        established.drop_overdue(cx.now);
        if established.rekey_at.take_if(|at| cx.now >= *at).is_some() {
            established.enqueue(Task::RekeyIke { group: None });
        }
        let due: Vec<_> = established.children.iter_mut().filter_map(|(spi, child)| child.due(cx.now, *spi)).collect();
        for task in due {
            if let Task::DeleteChild(spi_in) = task {
                cx.news.push(News::ChildPhase(spi_in, Phase::Leaving));
            }
            established.enqueue(task);
        }
        if let Some((_, spi_in)) = superfluous(&established.children).filter(|(at, _)| cx.now >= *at) {
            self.retire(cx, spi_in, Phase::Leaving);
            self.plan_child_delete(spi_in);
        }
        let Stage::Established(established) = &mut self.stage else { return };
        if established.dpd_at().is_some_and(|at| cx.now >= at) && established.is_doubtful(cx.now) {
            established.enqueue(Task::Liveness);
        }
        if established.keepalive_at.take_if(|at| cx.now >= *at).is_some() {
            established.keepalive_at = Some(cx.now + NAT_KEEPALIVE);
            cx.out.push(Output::NatKeepalive { path: self.path.clone() });
        }
    }
}
