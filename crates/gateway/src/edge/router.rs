//! From method and path to an operation and its handler: made once from the table.

use std::{collections::HashMap, future::Future, pin::Pin};

use sampan_api::{Method, Operation, Refusal};

use crate::call::{Call, Reply};

/// A handler as it stands in the table.
pub type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// An operation and what answers it.
#[derive(Clone, Copy)]
pub struct Route {
    /// The operation.
    pub operation: &'static Operation,
    /// Its handler.
    pub handler: Handler,
}

/// The routes by method and path.
pub struct Router {
    methods: HashMap<Method, matchit::Router<Route>>,
}

/// A found route with the placeholders' decoded values.
pub struct Match {
    /// The route.
    pub route: Route,
    /// Placeholder and value.
    pub path: Vec<(&'static str, String)>,
}

impl Router {
    /// Makes the router; a path that is declared twice is a fault of the table and named.
    pub fn new(routes: &[Route]) -> Result<Self, String> {
        let mut methods: HashMap<Method, matchit::Router<Route>> = HashMap::new();
        for route in routes {
            let router = methods.entry(route.operation.method).or_default();
            for path in route.operation.paths() {
                router
                    .insert(path.trim_end_matches('/'), *route)
                    .map_err(|error| format!("{} {path}: {error}", route.operation.method))?;
            }
        }
        Ok(Self { methods })
    }

    /// Finds the operation; trailing slashes do not matter.
    pub fn find(&self, method: &http::Method, path: &str) -> Result<Match, Refusal> {
        let unknown = || Refusal::no_such_operation(method.as_str(), path);
        let router = Method::parse(method.as_str()).and_then(|method| self.methods.get(&method)).ok_or_else(unknown)?;
        let found = router.at(path.trim_end_matches('/')).map_err(|_| unknown())?;
        let mut values = Vec::with_capacity(found.params.len());
        for name in found.value.operation.path_parameters() {
            let raw = found.params.get(name).unwrap_or_default();
            let value = percent_decode(raw).ok_or_else(unknown)?;
            values.push((name, value));
        }
        Ok(Match { route: *found.value, path: values })
    }
}

/// Decodes `%XX`; `None` when that is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = bytes.get(index + 1..index + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[index], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                index += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes() -> Vec<Route> {
        let handler: Handler = |_| Box::pin(async { Ok(Reply { json: "null".to_owned() }) });
        sampan_api::OPERATIONS.iter().map(|operation| Route { operation, handler }).collect()
    }

    #[test]
    fn every_operation_is_found_by_each_of_its_paths() {
        let router = Router::new(&routes()).unwrap();
        for operation in sampan_api::OPERATIONS {
            for path in operation.paths() {
                let concrete = path.replace(['{', '}'], "");
                let method = operation.method.as_str().parse().unwrap();
                for path in [concrete.clone(), format!("{concrete}/")] {
                    let found = router.find(&method, &path).ok().unwrap();
                    assert_eq!(found.route.operation.name, operation.name, "{path}");
                    assert!(found.path.iter().all(|(name, value)| name == value), "{path}");
                }
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let router = Router::new(&routes()).unwrap();
        for (method, path) in
            [("GET", "/nothing"), ("PATCH", "/clusters"), ("DELETE", "/quota"), ("GET", "/clusters/%ff")]
        {
            let refusal = router.find(&method.parse().unwrap(), path).err().unwrap();
            assert_eq!(refusal.code, sampan_api::Code::InvalidActionNotFound, "{method} {path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_found_or_refused(path in "/?(clusters|%[0-9a-zA-Z]{0,2}|[^?#]{0,12}|/){0,6}", method in "(GET|POST|PUT|DELETE|X)") {
            let method = method.parse().unwrap();
            match Router::new(&routes()).unwrap().find(&method, &path) {
                Ok(found) => prop_assert!(found.route.operation.path_parameters().count() >= found.path.len()),
                Err(refusal) => prop_assert_eq!(refusal.code, sampan_api::Code::InvalidActionNotFound),
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(id in "[^/]{1,20}") {
            let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let found = Router::new(&routes()).unwrap().find(&http::Method::GET, &format!("/clusters/{encoded}"));
            prop_assert_eq!(found.ok().unwrap().path, [("ClusterId", id)]);
        }
    }
}
