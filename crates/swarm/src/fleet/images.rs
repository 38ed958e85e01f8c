//! Images: which node has which, from node to node, from a registry to all.

use futures::future::join_all;
use http::{HeaderValue, Method, Request, header};
use serde_json::Value;
use tokio::sync::MutexGuard;

use super::{
    Fleet, Member,
    client::{json_request, set_header},
    observe::text,
    wire::{self, Messages},
};
use crate::model::{Image, Refusal};

impl Fleet {
    /// Id of an image on this node, as last seen.
    pub(crate) fn image_on(member: &Member, image: &str) -> Option<String> {
        let cache = member.cache();
        find_image(cache.image_names(), image).map(|image| image.id.clone())
    }

    /// A healthy node that has an image: what its name means, if nodes differ.
    pub(crate) async fn holder_of(&self, image: &str) -> Option<std::sync::Arc<Member>> {
        if let Some(meant) = self.holder_of_meant(image) {
            return Some(meant);
        }
        let healthy = self.healthy();
        if let Some(known) = healthy.iter().find(|member| Self::image_on(member, image).is_some()) {
            return Some(known.clone());
        }
        // What was made this very moment is not in the cache yet.
        let asked = join_all(healthy.iter().map(|member| super::create::has_image(member, image))).await;
        healthy.into_iter().zip(asked).find_map(|(member, has)| has.then_some(member))
    }

    /// Brings an image to a node from another that has it; `false` when none has.
    pub(crate) async fn bring_image(&self, to: &Member, image: &str) -> Result<bool, Refusal> {
        let _turn = to.transfer().await;
        if super::create::has_image(to, image).await {
            return Ok(true);
        }
        match self.holder_of(image).await {
            Some(from) if from.name != to.name => {
                copy(&from, to, image).await?;
                to.refresh_images().await?;
                self.publish();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Copies an image from one node to all other healthy ones; answers for each how it went.
    pub(crate) async fn spread_image(&self, from: &Member, image: &str) -> Vec<(String, Result<(), Refusal>)> {
        let others: Vec<_> = self.healthy().into_iter().filter(|member| member.name != from.name).collect();
        let copies = others.iter().map(|to| async {
            let _turn: MutexGuard<'_, ()> = to.transfer().await;
            let copied = copy(from, to, image).await;
            if let Err(error) = to.refresh_images().await {
                tracing::debug!(node = to.name, error = error.message, "images could not be listed");
            }
            (to.name.clone(), copied)
        });
        let results = join_all(copies).await;
        self.publish();
        results
    }

    /// Pulls an image on one node, unless it came meanwhile.
    pub(crate) async fn pull_on(&self, member: &Member, image: &str, auth: Option<&str>) -> Result<(), Refusal> {
        let _turn = member.transfer().await;
        if super::create::has_image(member, image).await {
            return Ok(());
        }
        pull(member, image, auth).await?;
        member.refresh_images().await?;
        self.note_image(member, image);
        self.publish();
        Ok(())
    }

    /// Pulls an image on all healthy nodes, also where an older one of that name is. Where it fails, the others' is brought
    /// before a container is made of it.
    pub(crate) async fn pull_everywhere(&self, image: &str, auth: Option<&str>) -> Result<(), Refusal> {
        let members = self.some_healthy()?;
        let pulls = members.iter().map(|member| async {
            let _turn = member.transfer().await;
            let pulled = pull(member, image, auth).await;
            if pulled.is_ok() {
                member.refresh_images().await?;
            }
            pulled.map_err(|refusal| Refusal::new(refusal.status, format!("{}: {}", member.name, refusal.message)))
        });
        let results: Vec<Result<(), Refusal>> = join_all(pulls).await;
        if let Some((member, _)) = members.iter().zip(&results).find(|(_, result)| result.is_ok()) {
            self.note_image(member, image);
        }
        self.publish();
        let failed: Vec<Refusal> = results.into_iter().filter_map(Result::err).collect();
        let words: Vec<&str> = failed.iter().map(|refusal| refusal.message.as_str()).collect();
        failed.first().map_or(Ok(()), |first| Err(Refusal::new(first.status, words.join("; "))))
    }
}

/// A pull, or a copy whose bytes all came, may be silent for so long; a registry that stalls holds up all other images.
const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(600);

/// Streams an image from node to node.
pub(super) async fn copy(from: &Member, to: &Member, image: &str) -> Result<(), Refusal> {
    tracing::info!(from = from.name, to = to.name, image, "an image is copied");
    let saved = from.client.send(json_request(Method::GET, &format!("/images/{image}/get"), None)?).await?;
    let saved = from.client.accepted(saved).await?;
    let mut request = Request::new(saved.into_body());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/images/load?quiet=1");
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    let loaded = to.client.send(request).await?;
    finish(to, loaded).await
}

async fn pull(member: &Member, image: &str, auth: Option<&str>) -> Result<(), Refusal> {
    let (name, tag) = split_tag(image);
    let path = match image.contains('@') {
        true => format!("/images/create?fromImage={image}"),
        false => format!("/images/create?fromImage={name}&tag={tag}"),
    };
    let mut request = json_request(Method::POST, &path, None)?;
    set_header(request.headers_mut(), "x-registry-auth", auth);
    let response = member.client.send(request).await?;
    finish(member, response).await
}

/// Reads a stream of progress to its end; an error in it is the outcome.
pub(crate) async fn finish(member: &Member, response: http::Response<wire::Body>) -> Result<(), Refusal> {
    let response = member.client.accepted(response).await?;
    let mut messages = Messages::new(response.into_body());
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, messages.next())
            .await
            .map_err(|_| member.client.failed(&format!("no progress with images for {} s", SILENCE_MAX.as_secs())))?;
        let Some(message) = next.map_err(|error| member.client.failed(&error))? else { return Ok(()) };
        if let Some(error) = error_of(&message) {
            return Err(Refusal::internal(error));
        }
    }
}

/// The error in a message of progress.
pub(crate) fn error_of(message: &Value) -> Option<String> {
    let error = text(message, "/errorDetail/message");
    let error = if error.is_empty() { text(message, "/error") } else { error };
    (!error.is_empty()).then(|| error.to_owned())
}

/// Name and tag, `latest` without one.
pub(crate) fn split_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// An image by name, with or without tag, or by a beginning of its id.
pub(crate) fn find_image<'a>(images: &'a [Image], wanted: &str) -> Option<&'a Image> {
    let by_name = find_by_name(images, wanted);
    by_name.or_else(|| {
        let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
        let hexadecimal = digits.len() >= 4 && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        let begins = |image: &&Image| image.id.strip_prefix("sha256:").unwrap_or(&image.id).starts_with(digits);
        images.iter().find(|image| hexadecimal && begins(image))
    })
}

/// An image by name, with or without tag.
pub(super) fn find_by_name<'a>(images: &'a [Image], wanted: &str) -> Option<&'a Image> {
    let named = full_name(wanted);
    images.iter().find(|image| image.tags.iter().any(|tag| familiar(tag) == named))
}

/// A name with its tag, and without what Docker adds to short ones.
pub(super) fn full_name(image: &str) -> String {
    let short = familiar(image);
    if short.contains('@') {
        return short.to_owned();
    }
    let (name, tag) = split_tag(short);
    format!("{name}:{tag}")
}

/// A name without what Docker adds to short ones.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}
