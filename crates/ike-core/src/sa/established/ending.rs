//! How an IKE SA in use ends: closed, lost, or with another in its place.

use ike_wire::IkeSpi;

use crate::{
    event::DownCause,
    sa::{
        Cx, Ending, IkeSa, News, Stage,
        leaving::{Goodbye, Leaving},
    },
};

impl IkeSa {
    /// Whether this SA's own rekey, still on the way, has that rival; then it gives way to it.
    pub(crate) fn elect(&mut self, cx: &mut Cx<'_>, rival: IkeSpi) {
        let Stage::Established(established) = &mut self.stage else { return };
        if established.rival() == Some(rival) {
            established.channel.window.abandon();
            self.bequeath(cx, rival, Goodbye::Expected);
        }
    }

    /// The peer does not answer any more.
    pub(super) fn lose(&mut self, cx: &mut Cx<'_>, cause: DownCause) {
        if let Stage::Established(established) = &mut self.stage {
            let rival =
                established.channel.window.abandon().and_then(|outstanding| outstanding.exchange.into_ike_rival());
            cx.news.extend(rival.map(|rival| News::CloseRival(rival.spi)));
        }
        self.vanish(cx, cause);
    }

    /// Ends its use: the children go, and the peer is told.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_>, cause: DownCause) {
        match &self.stage {
            Stage::Established(_) => {
                self.log_closed(cx, cause.clone());
                cx.news.push(News::Ended(Ending::Lost(cause)));
                self.leave(cx, Goodbye::Due);
            }
            Stage::Calling(_) | Stage::HalfOpen(_) | Stage::Mixing(_) | Stage::Proving(_) => self.vanish(cx, cause),
            Stage::Leaving(_) | Stage::Over => {}
        }
    }

    /// As [`IkeSa::close`], because another SA has taken its place.
    pub(crate) fn close_superseded(&mut self, cx: &mut Cx<'_>) {
        if let Stage::Established(established) = &self.stage {
            let goodbye_for = established.config.dpd.timeout;
            cx.news.push(News::Ended(Ending::Superseded));
            self.end_children(cx);
            if let Stage::Established(established) = std::mem::replace(&mut self.stage, Stage::Over) {
                let leaving = Leaving::new(cx.now, established.channel, Goodbye::Due).insist(cx.now, goodbye_for);
                self.stage = Stage::Leaving(Box::new(leaving));
                self.say_goodbye(cx);
            }
        }
    }

    /// Another SA has taken its place, and closing it is the peer's part.
    pub(crate) fn await_close(&mut self, cx: &mut Cx<'_>) {
        if self.is_established() {
            cx.news.push(News::Ended(Ending::Superseded));
            self.leave(cx, Goodbye::Expected);
        }
    }

    /// From established to leaving.
    pub(in crate::sa) fn leave(&mut self, cx: &mut Cx<'_>, goodbye: Goodbye) {
        self.end_children(cx);
        if let Stage::Established(established) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.stage = Stage::Leaving(Box::new(Leaving::new(cx.now, established.channel, goodbye)));
            self.say_goodbye(cx);
        }
    }

    /// The peer broke the protocol in an authentic message: the SA cannot go on (RFC 7296 §2.21.3).
    pub(in crate::sa) fn break_off(&mut self, cx: &mut Cx<'_>, what: String) {
        self.close(cx, DownCause::ProtocolError(what));
    }
}
