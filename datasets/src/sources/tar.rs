//! Tar archives as WebDataset writes and reads them.
//!
//! Members that follow each other and have the same key, which is all before the first dot of the last component of their
//! path, are one sample. Its image is the member `jpg`, `jpeg`, `png` or `webp`, in this order of preference; its class
//! is written in the member `cls`, or in `json` as `cls` or `label`, or in `txt` if that is a number. Uncompressed
//! archives are read where they lie. Compressed ones can only be read front to back, so their images go to a temporary
//! file first.

use std::io::{self, Read};

use serde_json::Value;

use super::blob::Blob;
use super::catalog::{Catalog, Container, Content, Image, Images};
use super::labels::{LabelIndex, LabelTable};
use super::spool::Spool;
use super::tar_header::{Member, MemberKind, Members, TarError};
use super::unpack::{Compression, Forward, Unpacked};
use super::{SourceFormat, SourceOptions};
use crate::error::DatasetError;

/// The members that are images, the preferred one first.
const IMAGE_EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// The members that hold a class, the preferred one first.
const LABEL_EXTENSIONS: [&str; 3] = ["cls", "json", "txt"];
/// What describes a sample is read up to this size; larger is left unread.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;

pub(super) fn open(location: &str, blobs: Vec<Blob>, options: &SourceOptions) -> Result<Catalog, DatasetError> {
    let mut listing = Listing::default();
    for blob in blobs {
        let container = listing.containers.len();
        let compression = Compression::of(&blob)?;
        let content = if compression == Compression::None {
            let members = Members::new(blob.reader().with_small_steps());
            listing.list(container, members, None).map_err(|error| of_blob(&blob, error))?;
            Content::File(blob.clone())
        } else {
            let mut spool = match listing.spool.take() {
                Some(spool) => spool,
                None => Spool::create(&options.spool_folder)?,
            };
            let members = Members::new(Unpacked::open(&blob, compression)?);
            listing.list(container, members, Some(&mut spool)).map_err(|error| of_blob(&blob, error))?;
            listing.spool = Some(spool);
            Content::Spooled
        };
        listing.containers.push(Container { name: blob.name(), content });
    }
    Ok(Catalog {
        format: SourceFormat::Tar,
        location: location.to_owned(),
        containers: listing.containers,
        images: listing.images,
        labels: listing.labels.finish(),
        skipped: listing.skipped,
        spool: listing.spool.map(Spool::finish).transpose()?,
    })
}

fn of_blob(blob: &Blob, error: TarError) -> DatasetError {
    match error {
        TarError::Damaged(reason) => blob.damaged(reason),
        TarError::Reader(error) => blob.failure_of_reader(error),
    }
}

#[derive(Default)]
struct Listing {
    containers: Vec<Container>,
    images: Images,
    labels: LabelTable,
    skipped: u64,
    spool: Option<Spool>,
}

/// What has been seen of the sample whose members are being read.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<Found>,
    label: Option<(usize, String)>,
}

struct Found {
    preference: usize,
    name: String,
    offset: u64,
    bytes: u64,
    bad: Option<String>,
}

impl Listing {
    /// Lists an archive. With a spool, images are copied there and lie at its offsets, else at those of the archive.
    fn list(
        &mut self,
        container: usize,
        mut members: Members<impl Forward>,
        mut spool: Option<&mut Spool>,
    ) -> Result<(), TarError> {
        let mut sample = Sample::default();
        while let Some(member) = members.next()? {
            if member.kind == MemberKind::Other {
                continue;
            }
            let (key, extension) = key_and_extension(&member.name);
            if key != sample.key {
                let key = key.to_owned();
                self.finish_sample(container, std::mem::replace(&mut sample, Sample { key, ..Sample::default() }));
            }
            if let Some(preference) = IMAGE_EXTENSIONS.iter().position(|known| *known == extension) {
                let found = find_image(&mut members, &member, preference, spool.as_deref_mut())?;
                self.prefer(&mut sample, found);
            } else if let Some(preference) = LABEL_EXTENSIONS.iter().position(|known| *known == extension)
                && member.kind == MemberKind::File
            {
                sample.describe(preference, &read_description(&mut members, &member)?);
            } else {
                members.skip_content(&member)?;
                self.skipped += 1;
            }
        }
        self.finish_sample(container, sample);
        Ok(())
    }

    fn prefer(&mut self, sample: &mut Sample, found: Found) {
        match &sample.image {
            Some(image) if image.preference <= found.preference => self.skipped += 1,
            Some(_) => {
                self.skipped += 1;
                sample.image = Some(found);
            }
            None => sample.image = Some(found),
        }
    }

    fn finish_sample(&mut self, container: usize, sample: Sample) {
        let Some(found) = sample.image else { return };
        let label = sample.label.map_or(LabelIndex::NONE, |(_, text)| self.labels.index(&text));
        let Found { offset, bytes, .. } = found;
        let image = Image { container, name: &found.name, label, offset, bytes };
        match found.bad {
            None => self.images.push(&image),
            Some(reason) => self.images.push_bad(&image, reason),
        }
    }
}

impl Sample {
    /// Takes the class from a description, unless a preferred member had one.
    fn describe(&mut self, preference: usize, content: &[u8]) {
        if self.label.as_ref().is_some_and(|(found, _)| *found <= preference) {
            return;
        }
        let text = String::from_utf8_lossy(content);
        let label = match LABEL_EXTENSIONS[preference] {
            "json" => label_of_json(&text),
            // Text is a caption more often than a class.
            "txt" => Some(text.trim().to_owned()).filter(|text| text.parse::<i64>().is_ok()),
            _ => Some(text.trim().to_owned()),
        };
        if let Some(label) = label {
            self.label = Some((preference, label));
        }
    }
}

/// An image of a sample, copied to the spool if there is one.
fn find_image(
    members: &mut Members<impl Forward>,
    member: &Member,
    preference: usize,
    spool: Option<&mut Spool>,
) -> Result<Found, TarError> {
    let bad = if member.kind == MemberKind::Link {
        Some("it is a link in the archive, which is not followed".to_owned())
    } else if leads_out(&member.name) {
        Some("its name leads out of the archive".to_owned())
    } else {
        None
    };
    let mut offset = member.offset;
    match spool {
        Some(spool) if bad.is_none() => {
            offset = spool.position();
            members.read_content(member, |reader, bytes| spool.append_from(reader, bytes))?;
        }
        _ => members.skip_content(member)?,
    }
    Ok(Found { preference, name: member.name.clone(), offset, bytes: member.bytes, bad })
}

fn read_description(members: &mut Members<impl Forward>, member: &Member) -> Result<Vec<u8>, TarError> {
    let mut content = Vec::new();
    if member.bytes > DESCRIPTION_BYTES_MAX {
        members.skip_content(member)?;
        return Ok(content);
    }
    members.read_content(member, |reader: &mut dyn Read, bytes: u64| -> io::Result<bool> {
        Ok(reader.take(bytes).read_to_end(&mut content)? as u64 == bytes)
    })?;
    Ok(content)
}

/// Nothing but the archive may be named: names end up in outputs, where others may take them for paths.
fn leads_out(name: &str) -> bool {
    name.starts_with('/') || name.split('/').any(|component| component == "..") || name.contains('\0')
}

/// What comes before the first dot of the last component, with the components before it; and what comes behind, in small
/// letters.
fn key_and_extension(name: &str) -> (&str, String) {
    let component = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[component..].find('.') {
        Some(dot) => (&name[..component + dot], name[component + dot + 1..].to_ascii_lowercase()),
        None => (name, String::new()),
    }
}

fn label_of_json(text: &str) -> Option<String> {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return None };
    match fields.get("cls").or_else(|| fields.get("label"))? {
        Value::Number(number) => Some(number.to_string()),
        Value::String(name) => Some(name.clone()),
        _ => None,
    }
}
