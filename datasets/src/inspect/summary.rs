//! Statistics over the manifest and the columns beside the images.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt32Type};
use polars::prelude::{
    ChunkAgg, ChunkCast, ChunkCompareIneq, ChunkQuantile, DataFrame, DataType, Int64Chunked, IntoColumn, NamedFrom,
    NewChunkedArray, Series, UInt32Chunked, UInt64Chunked,
};

use crate::dataset::Dataset;
use crate::error::DatasetError;
use crate::header::ImageFormat;
use crate::manifest::{PixelStats, RowGroupEntry};
use crate::random::RandomStream;
use crate::schema::{HEIGHT, LABEL, WIDTH};

/// Of a larger data set, evenly spread row groups of about so many rows are looked at, so that memory stays bounded.
pub const SUMMARY_ROWS_MAX: u64 = 20_000_000;
/// Row groups whose images are looked at to tell the formats.
const FORMAT_GROUPS: u64 = 4;
/// Images with a shorter side than this are odd: most crops would be enlarged.
const TINY_PX: u32 = 32;
/// Images with a longer side of more than so many times the shorter one are odd.
const ASPECT_MAX: u64 = 4;

/// What is in a data set.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Where it lies.
    pub location: String,
    /// The version of its format.
    pub schema_version: u32,
    /// Its fingerprint, in hexadecimal.
    pub fingerprint: String,
    /// Rows.
    pub rows: u64,
    /// Shards.
    pub shards: u64,
    /// Row groups.
    pub row_groups: u64,
    /// Bytes of the row groups.
    pub bytes: u64,
    /// Bytes of the images.
    pub image_bytes: u64,
    /// Bytes of a row group.
    pub row_group_bytes: Distribution,
    /// The rows that everything below was taken from: all, unless there are more than [`SUMMARY_ROWS_MAX`].
    pub rows_examined: u64,
    /// Rows of each class, in the order of the labels.
    pub classes: Vec<ClassCount>,
    /// Rows without a label.
    pub unlabelled: u64,
    /// Width in pixels.
    pub width_px: Distribution,
    /// Height in pixels.
    pub height_px: Distribution,
    /// The images of a few row groups, drawn by a fixed seed, by format.
    pub formats: BTreeMap<String, u64>,
    /// The images that the formats were counted in.
    pub formats_examined: u64,
    /// What may deserve a look.
    pub oddities: Oddities,
    /// Mean and deviation of the pixels, where the conversion measured them.
    pub pixel_stats: Option<PixelStats>,
    /// The configuration of the conversion.
    pub conversion: serde_json::Value,
}

/// How values spread; all zero where there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Distribution {
    /// The smallest.
    pub min: u64,
    /// The one in the middle.
    pub median: f64,
    /// The average.
    pub mean: f64,
    /// The largest.
    pub max: u64,
}

/// How many rows a class has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClassCount {
    /// Its name, or its number where it has none.
    pub name: String,
    /// Its rows among those examined.
    pub rows: u64,
}

/// What may deserve a look.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Oddities {
    /// Images whose shorter side has less than 32 pixels.
    pub tiny_images: u64,
    /// Images whose longer side is more than four times the shorter.
    pub extreme_aspects: u64,
    /// Classes without a row among those examined.
    pub empty_classes: Vec<String>,
    /// Rows whose label has no class name, where there are class names.
    pub labels_without_class: u64,
}

/// Summarises a data set, without reading images but for those whose formats are told.
///
/// # Errors
///
/// If a shard cannot be read or is damaged.
pub fn summarize(dataset: &Dataset) -> Result<Summary, DatasetError> {
    let manifest = dataset.manifest();
    let groups = row_group_frame(manifest.row_groups())?;
    let column = |name: &str| -> Result<UInt64Chunked, DatasetError> { Ok(groups.column(name)?.u64()?.clone()) };
    let lengths = column("length")?;
    let columns = read_small_columns(dataset)?;
    let (formats, formats_examined) = count_formats(dataset)?;
    let names = manifest.class_names();
    let known = columns.labels.range(0..names.len() as i64).map(|(_, rows)| rows).sum::<u64>();
    let labelled = columns.labels.values().sum::<u64>();
    let classes = class_counts(names, &columns.labels);
    let oddities = Oddities {
        tiny_images: columns.tiny,
        extreme_aspects: columns.extreme,
        empty_classes: classes.iter().filter(|class| class.rows == 0).map(|class| class.name.clone()).collect(),
        labels_without_class: if names.is_empty() { 0 } else { labelled - known },
    };
    Ok(Summary {
        location: dataset.location().to_owned(),
        schema_version: manifest.schema_version(),
        fingerprint: format!("{:016x}", manifest.fingerprint()),
        rows: manifest.rows(),
        shards: manifest.shards(),
        row_groups: groups.height() as u64,
        bytes: lengths.sum().unwrap_or(0),
        image_bytes: column("image_bytes")?.sum().unwrap_or(0),
        row_group_bytes: distribution(&lengths),
        rows_examined: columns.rows,
        classes,
        unlabelled: columns.rows - labelled,
        width_px: pixels_distribution(&columns.widths),
        height_px: pixels_distribution(&columns.heights),
        formats,
        formats_examined,
        oddities,
        pixel_stats: manifest.pixel_stats(),
        conversion: manifest.conversion().clone(),
    })
}

fn row_group_frame(entries: &[RowGroupEntry]) -> Result<DataFrame, DatasetError> {
    let column = |name: &str, of: fn(&RowGroupEntry) -> u64| {
        Series::new(name.into(), entries.iter().map(of).collect::<Vec<u64>>()).into_column()
    };
    let columns = vec![column("length", |entry| entry.length), column("image_bytes", |entry| entry.image_bytes)];
    Ok(DataFrame::new(entries.len(), columns)?)
}

fn distribution(values: &UInt64Chunked) -> Distribution {
    Distribution {
        min: values.min().unwrap_or(0),
        median: values.median().unwrap_or(0.0),
        mean: values.mean().unwrap_or(0.0),
        max: values.max().unwrap_or(0),
    }
}

fn pixels_distribution(values: &UInt32Chunked) -> Distribution {
    Distribution {
        min: values.min().unwrap_or(0).into(),
        median: values.median().unwrap_or(0.0),
        mean: values.mean().unwrap_or(0.0),
        max: values.max().unwrap_or(0).into(),
    }
}

/// The columns beside the images.
struct SmallColumns {
    rows: u64,
    widths: UInt32Chunked,
    heights: UInt32Chunked,
    /// Rows by label.
    labels: BTreeMap<i64, u64>,
    tiny: u64,
    extreme: u64,
}

fn read_small_columns(dataset: &Dataset) -> Result<SmallColumns, DatasetError> {
    let manifest = dataset.manifest();
    let step = manifest.rows().div_ceil(SUMMARY_ROWS_MAX).max(1) as usize;
    let none = |name: &str| UInt32Chunked::from_vec(name.into(), Vec::new());
    let (widths, heights) = (none(WIDTH), none(HEIGHT));
    let mut all = SmallColumns { rows: 0, widths, heights, labels: BTreeMap::new(), tiny: 0, extreme: 0 };
    for group in (0..manifest.row_groups().len()).step_by(step) {
        let batch = dataset.read_columns(group, &[LABEL, WIDTH, HEIGHT])?;
        all.add(&column_frame(&batch)?)?;
    }
    Ok(all)
}

/// Labels, widths and heights of a row group.
fn column_frame(batch: &RecordBatch) -> Result<DataFrame, DatasetError> {
    let labels = Int64Chunked::from_iter_options(LABEL.into(), batch.column(0).as_primitive::<Int64Type>().iter());
    let sides = |name: &str, column: usize| {
        UInt32Chunked::from_slice(name.into(), batch.column(column).as_primitive::<UInt32Type>().values()).into_column()
    };
    Ok(DataFrame::new(batch.num_rows(), vec![labels.into_column(), sides(WIDTH, 1), sides(HEIGHT, 2)])?)
}

impl SmallColumns {
    /// Adds the rows of a row group; so memory grows with two numbers a row.
    fn add(&mut self, frame: &DataFrame) -> Result<(), DatasetError> {
        let counted = frame.group_by([LABEL])?.select([WIDTH]).count()?;
        let counts = counted.column(&format!("{WIDTH}_count"))?;
        for (label, rows) in counted.column(LABEL)?.i64()?.iter().zip(counts.idx()?.iter()) {
            if let Some(label) = label {
                *self.labels.entry(label).or_insert(0) += u64::from(rows.unwrap_or(0));
            }
        }
        let (widths, heights) = (frame.column(WIDTH)?.u32()?, frame.column(HEIGHT)?.u32()?);
        let tiny = widths.lt(TINY_PX) | heights.lt(TINY_PX);
        // Four times a side may not fit 32 bits.
        let [wide, high] = [widths, heights].map(|sides| sides.cast(&DataType::UInt64));
        let (wide, high) = (wide?.u64()?.clone(), high?.u64()?.clone());
        let extreme = (&wide * ASPECT_MAX).lt(&high) | (&high * ASPECT_MAX).lt(&wide);
        self.rows += frame.height() as u64;
        self.tiny += u64::from(tiny.sum().unwrap_or(0));
        self.extreme += u64::from(extreme.sum().unwrap_or(0));
        self.widths.append(widths)?;
        self.heights.append(heights)?;
        Ok(())
    }
}

fn class_counts(names: &[String], labels: &BTreeMap<i64, u64>) -> Vec<ClassCount> {
    if names.is_empty() {
        return labels.iter().map(|(label, &rows)| ClassCount { name: label.to_string(), rows }).collect();
    }
    let rows = |label: usize| labels.get(&(label as i64)).copied().unwrap_or(0);
    names.iter().enumerate().map(|(label, name)| ClassCount { name: name.clone(), rows: rows(label) }).collect()
}

fn count_formats(dataset: &Dataset) -> Result<(BTreeMap<String, u64>, u64), DatasetError> {
    let mut groups: Vec<usize> = (0..dataset.manifest().row_groups().len()).collect();
    RandomStream::new(&[0]).shuffle(&mut groups);
    groups.truncate(FORMAT_GROUPS as usize);
    let (mut formats, mut examined) = (BTreeMap::new(), 0);
    for group in groups {
        let group = dataset.read_group(group)?;
        for row in (0..group.rows()).filter_map(|row| group.row(row)) {
            let format = ImageFormat::sniff(row.bytes()).map_or("unknown", ImageFormat::name);
            *formats.entry(format.to_owned()).or_insert(0) += 1;
            examined += 1;
        }
    }
    Ok((formats, examined))
}
