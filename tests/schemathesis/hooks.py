"""Rules for schemathesis that rules.toml cannot express.

By contract a request without a token gets 400, but two of the checks accept only 401 and 403. A
request that waits must not take minutes. A refresh during another one is a server error. A spec must
not be applied, and the examples of specs are good ones.
"""

import os
import re

import requests
import schemathesis

NO_TOKEN = {"error": "invalid authorization token"}
# The header to send and the expected status.
REFUSED = [(None, 400), ("Basic eDp4", 400), ("Bearer x", 401)]

asked = set()
# The form of a `timeout`, by the path that has one.
patterns = {}


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Notes the form of waits, and removes the examples of specs: a bad request made from one could
    be applied."""
    for path in ("/status", "/log"):
        for parameter in raw_schema["paths"].get(path, {}).get("get", {}).get("parameters", ()):
            if parameter["name"] == "timeout":
                patterns[path] = parameter["schema"]["pattern"]
    for path in ("/configure", "/promote"):
        body = raw_schema["paths"][path]["post"]["requestBody"]["content"]
        del body["application/json"]["example"]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Shortens waits in /status and /log, and removes a `timeout` without a `wait`."""
    if case.operation.path == "/refresh_configuration":
        wait_until_running()
    query = case.query
    if case.operation.path not in patterns or not isinstance(query, dict):
        return
    timeout = query.get("timeout")
    good = isinstance(timeout, str) and re.fullmatch(patterns[case.operation.path], timeout)
    if case.operation.path == "/log":
        if good:
            query["timeout"] = "10ms"
        return
    if "wait" in query and (timeout is None or good):
        query["timeout"] = "10ms"
    elif "wait" not in query and good:
        del query["timeout"]


def wait_until_running():
    """Waits for the end of the last refresh."""
    headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
    query = {"wait": "running", "timeout": "30s"}
    requests.get(os.environ["STATUS"], params=query, headers=headers).raise_for_status()


@schemathesis.hook
def after_call(context, case, response):
    """Shows `missing_required_header` a 401 for exactly the documented answer."""
    if response.status_code == 400 and not has_token(response.request.headers):
        if response.json() == NO_TOKEN:
            response.status_code = 401


def has_token(headers):
    """Whether a token follows `Bearer`."""
    for name, value in headers.items():
        value = value if isinstance(value, str) else "".join(value)
        words = value.split(maxsplit=1)
        if name.lower() == "authorization" and len(words) == 2:
            return words[0].lower() == "bearer"
    return False


@schemathesis.check
def token_is_asked_for(ctx, response, case):
    """Stands in for `ignored_auth`: a request that was good is refused without a good token."""
    operation = case.operation
    if not operation.definition.raw.get("security") or response.status_code >= 300:
        return
    if operation.label in asked:
        return
    asked.add(operation.label)
    for authorization, status in REFUSED:
        headers = {"Authorization": authorization} if authorization else {}
        answer = requests.request(
            response.request.method, response.request.url, headers=headers, timeout=10
        )
        if answer.status_code != status:
            raise AssertionError(f"{authorization}: {answer.status_code} in place of {status}")
