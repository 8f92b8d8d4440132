//! Metrics of a collector, written a family at a time.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// A label and its value.
pub type Label = (&'static str, String);

/// Writes the series of one metric after another. A metric without series is left out.
#[derive(Debug)]
pub struct SeriesWriter<'a>(DescriptorEncoder<'a>);

impl<'a> SeriesWriter<'a> {
    /// Writes through `encoder`.
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Values that only grow; the name goes without `_total`.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn counter<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        series: impl Iterator<Item = ([Label; N], u64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, series.map(|(labels, value)| (labels, ConstCounter::new(value))))
    }

    /// Values that go up and down.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn gauge<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        series: impl Iterator<Item = ([Label; N], f64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, series.map(|(labels, value)| (labels, ConstGauge::new(value))))
    }

    fn family<const N: usize, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        series: impl Iterator<Item = ([Label; N], M)>,
    ) -> fmt::Result {
        let mut series = series.peekable();
        let Some((_, first)) = series.peek() else { return Ok(()) };
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), first.metric_type())?;
        if N == 0 {
            // One value without labels; an empty pair of braces would not be read by everyone.
            return series.next().map_or(Ok(()), |(_, metric)| metric.encode(family));
        }
        for (labels, metric) in series {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{collector::Collector, encoding::text, registry::Registry};

    use super::*;

    #[derive(Debug)]
    struct Sample;

    impl Collector for Sample {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let mut out = SeriesWriter::new(encoder);
            let peers = [("a", 1), ("b", 2)];
            let series = peers.into_iter().map(|(peer, value)| ([("peer", peer.to_owned())], value));
            out.counter("updates", "Updates", None, series)?;
            out.gauge::<1>("nothing", "Nothing", None, std::iter::empty())?;
            out.gauge("age", "Age", Some(Unit::Seconds), [([], 1.5)].into_iter())
        }
    }

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Sample));
        let mut written = String::new();
        text::encode(&mut written, &registry).unwrap();
        assert_eq!(
            written,
            "# HELP updates Updates\n# TYPE updates counter\nupdates_total{peer=\"a\"} 1\nupdates_total{peer=\"b\"} 2\n\
             # HELP age_seconds Age\n# TYPE age_seconds gauge\n# UNIT age_seconds seconds\nage_seconds 1.5\n# EOF\n"
        );
    }
}
