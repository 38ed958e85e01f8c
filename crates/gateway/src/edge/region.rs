//! Which region a request is about, when its body does not say.

/// From the query's `RegionId` or `region_id`, else `x-acs-region-id`, else the endpoint's host name.
pub(super) fn of_request(query: &[(String, String)], header: Option<&str>, host: Option<&str>) -> Option<String> {
    let in_query = || ["RegionId", "region_id"].iter().find_map(|name| query.iter().find(|(key, _)| key == name));
    let named = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    in_query().and_then(|(_, value)| named(value)).or_else(|| header.and_then(named)).or_else(|| host.and_then(of_host))
}

/// `cs.<region>.<domain>` and `cs-vpc.<region>.<domain>` name a region; `cs.<domain>` and addresses do not.
fn of_host(host: &str) -> Option<String> {
    let name = host.split(':').next()?;
    let mut labels = name.split('.');
    let service = labels.next()?;
    let region = labels.next()?;
    let is_region = region.contains('-') && region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (matches!(service, "cs" | "cs-vpc") && is_region && labels.next().is_some()).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_query_header_host() {
        let query = vec![("RegionId".to_owned(), "cn-beijing".to_owned())];
        let host = Some("cs.cn-hangzhou.aliyuncs.com:80");
        assert_eq!(of_request(&query, Some("us-west-1"), host).as_deref(), Some("cn-beijing"));
        assert_eq!(of_request(&[], Some("us-west-1"), host).as_deref(), Some("us-west-1"));
        assert_eq!(of_request(&[], None, host).as_deref(), Some("cn-hangzhou"));
        assert_eq!(of_request(&[], None, Some("cs-vpc.cn-beijing.aliyuncs.com")).as_deref(), Some("cn-beijing"));
        for host in ["cs.aliyuncs.com", "127.0.0.1:8080", "localhost", ""] {
            assert_eq!(of_request(&[], None, Some(host)), None, "{host}");
        }
    }
}
