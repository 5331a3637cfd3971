//! The validated spec: effective values after the fallbacks of 02 §7 and 01 §5.4.
//!
//! A spec is checked completely here, before it replaces another one, so that a bad `/configure`
//! leaves the running compute untouched (02 W3, W4).

use std::str::FromStr;

use super::error::{BadId, SpecError};
use super::host_port::split_host_port;
use super::ids::{TenantId, TimelineId};
use super::pageserver::PageserverConnectionInfo;
use super::wire::{ComputeMode, ComputeSpec};
use crate::secret::{self, Secret};

/// The setting that stands in for `endpoint_storage_token`.
const ENDPOINT_TOKEN: &str = "neon.endpoint_storage_token";

/// A spec together with its effective values. Shared by reference; replaced as a whole.
#[derive(Debug)]
pub struct ParsedSpec {
    /// The spec as it came.
    pub spec: ComputeSpec,
    /// `tenant_id`, else setting `neon.tenant_id`.
    pub tenant_id: TenantId,
    /// `timeline_id`, else setting `neon.timeline_id`.
    pub timeline_id: TimelineId,
    /// Converted from any of the three spellings.
    pub pageserver: PageserverConnectionInfo,
    /// `host:port` each; empty for a Static or Replica compute that names none.
    pub safekeepers: Vec<String>,
    /// Numbers, from 1, of safekeepers in a form that only Postgres may understand, such as a URL.
    /// They are not asked: the full sync decides.
    pub odd_safekeepers: Vec<usize>,
    /// `endpoint_storage_addr`, else the setting of that name.
    pub endpoint_storage_addr: Option<String>,
    /// `endpoint_storage_token`, else the setting of that name.
    pub endpoint_storage_token: Option<Secret<String>>,
}

impl ParsedSpec {
    /// Mode of the compute.
    pub const fn mode(&self) -> ComputeMode {
        self.spec.mode
    }

    /// Whether the compute is read-write.
    pub fn is_primary(&self) -> bool {
        self.spec.mode == ComputeMode::Primary
    }

    /// Whether a start with this spec applies roles and databases (05 §1).
    pub fn applies_catalog(&self) -> bool {
        self.is_primary() && !self.spec.skip_pg_catalog_updates
    }

    /// Password towards the storage nodes.
    pub const fn storage_token(&self) -> Option<&Secret<String>> {
        self.spec.storage_auth_token.as_ref()
    }
}

impl TryFrom<ComputeSpec> for ParsedSpec {
    type Error = SpecError;

    fn try_from(mut spec: ComputeSpec) -> Result<Self, SpecError> {
        if let Some(token) = &mut spec.storage_auth_token {
            *token = secret::token("storage_auth_token", token.expose())?;
        }
        let pageserver = pageserver_info(&spec)?;
        let (entries, may_be_blank) = safekeeper_entries(&spec)?;
        let tenant_id =
            id(spec.tenant_id, spec.setting("neon.tenant_id"), SpecError::NoTenant, |text| {
                SpecError::BadTenant(BadId::new(text))
            })?;
        let timeline_id = id(
            spec.timeline_id,
            spec.setting("neon.timeline_id"),
            SpecError::NoTimeline,
            |text| SpecError::BadTimeline(BadId::new(text)),
        )?;
        if spec.mode == ComputeMode::Primary {
            check_safekeepers(&entries, may_be_blank)?;
        }
        let (mut safekeepers, mut odd_safekeepers) = (Vec::new(), Vec::new());
        for (number, entry) in (1..).zip(entries) {
            if is_address(&entry) {
                safekeepers.push(entry);
            } else {
                odd_safekeepers.push(number);
            }
        }
        pageserver.validate()?;
        if let Some(host) = &spec.logs_export_host
            && split_host_port(host).is_none()
        {
            return Err(SpecError::BadLogsExportHost);
        }

        let setting = |name| spec.setting(name).map(str::to_owned);
        let endpoint_storage_addr =
            spec.endpoint_storage_addr.clone().or_else(|| setting("neon.endpoint_storage_addr"));
        let endpoint_storage_token = match &spec.endpoint_storage_token {
            Some(token) => Some(("endpoint_storage_token", token.expose().as_str())),
            None => spec.setting(ENDPOINT_TOKEN).map(|token| (ENDPOINT_TOKEN, token)),
        };
        let endpoint_storage_token =
            endpoint_storage_token.map(|(name, text)| secret::token(name, text)).transpose()?;
        Ok(Self {
            tenant_id,
            timeline_id,
            pageserver,
            safekeepers,
            odd_safekeepers,
            endpoint_storage_addr,
            endpoint_storage_token,
            spec,
        })
    }
}

fn id<T: FromStr>(
    member: Option<T>,
    setting: Option<&str>,
    missing: SpecError,
    bad: fn(&str) -> SpecError,
) -> Result<T, SpecError> {
    match (member, setting) {
        (Some(id), _) => Ok(id),
        (None, Some(text)) => text.parse().map_err(|_| bad(text)),
        (None, None) => Err(missing),
    }
}

fn pageserver_info(spec: &ComputeSpec) -> Result<PageserverConnectionInfo, SpecError> {
    if let Some(info) = &spec.pageserver_connection_info {
        return Ok(info.clone());
    }
    if let Some(connstring) = &spec.pageserver_connstring {
        let info =
            PageserverConnectionInfo::from_connstring(connstring.expose(), spec.shard_stripe_size);
        return Ok(info?);
    }
    let connstring = spec.setting("neon.pageserver_connstring").ok_or(SpecError::NoPageserver)?;
    let stripe_size = match spec.setting("neon.stripe_size") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| SpecError::BadStripeSize)?),
    };
    Ok(PageserverConnectionInfo::from_connstring(connstring, stripe_size)?)
}

/// The entries as they are written, and whether blank ones among them are possible: a list in a
/// setting may end in a comma.
fn safekeeper_entries(spec: &ComputeSpec) -> Result<(Vec<String>, bool), SpecError> {
    if !spec.safekeeper_connstrings.is_empty() {
        return Ok((spec.safekeeper_connstrings.clone(), false));
    }
    if spec.mode != ComputeMode::Primary {
        return Ok((Vec::new(), false));
    }
    let setting = spec.setting("neon.safekeepers").ok_or(SpecError::NoSafekeepers)?;
    // The setting has the form for Postgres, which may begin with a generation (02 W9, 06 W12).
    let list = match setting.strip_prefix("g#").and_then(|rest| rest.split_once(':')) {
        Some((generation, list)) if generation.parse::<u32>().is_ok() => list,
        _ => setting,
    };
    Ok((list.split(',').map(str::to_owned).collect(), !list.trim().is_empty()))
}

/// What the form of an entry means is left to Postgres. The same safekeeper twice would count twice
/// in its quorum.
fn check_safekeepers(entries: &[String], may_be_blank: bool) -> Result<(), SpecError> {
    if entries.is_empty() {
        return Err(SpecError::SafekeepersEmpty);
    }
    let blank = entries.iter().position(|entry| entry.trim().is_empty());
    if let (Some(position), false) = (blank, may_be_blank) {
        return Err(SpecError::BadSafekeeper(position.saturating_add(1)));
    }
    let numbered = (1..).zip(entries).map(|(number, entry)| (entry.trim(), number));
    let mut sorted: Vec<(&str, usize)> = numbered.filter(|(entry, _)| !entry.is_empty()).collect();
    sorted.sort_unstable();
    let neighbours = sorted.iter().zip(sorted.iter().skip(1));
    let mut twice = neighbours.filter(|((one, _), (other, _))| one == other);
    match twice.next() {
        None => Ok(()),
        Some(((entry, _), _)) if is_address(entry) => {
            Err(SpecError::DuplicateSafekeeper((*entry).to_owned()))
        }
        // It may hold a password.
        Some((_, (_, number))) => Err(SpecError::DuplicateEntry(*number)),
    }
}

/// Whether a text is `host:port`; the host may be an IPv6 address in brackets.
fn is_address(entry: &str) -> bool {
    let Some((host, port)) = entry.rsplit_once(':') else { return false };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_sane = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(|c: char| " \t\n:@/?#[]%,'\"\\".contains(c)),
    };
    host_is_sane && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests;
