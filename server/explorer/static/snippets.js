// The call that the page has just made, for a shell and for Python. The token stays out: $TOKEN stands for it.

export function curlCall(base, call) {
  const lines = [`curl -sSg '${address(base, call)}' \\`, "  -H 'content-type: application/json' \\"];
  if (call.withToken) lines.push('  -H "authorization: Bearer $TOKEN" \\');
  // Base64 and names: nothing that a quoted here-document would change.
  return [...lines, "  --data-binary @- <<'EOF'", JSON.stringify(call.request), "EOF", ""].join("\n");
}

export function pythonCall(base, call) {
  const headers = ['"content-type": "application/json"'];
  if (call.withToken) headers.push('"authorization": f"Bearer {os.environ[\'TOKEN\']}"');
  return [
    "import json",
    ...(call.withToken ? ["import os"] : []),
    "import urllib.request",
    "",
    // JSON's text within a literal of its own: no value of it is Python by chance.
    `body = ${pythonText(JSON.stringify(call.request))}`,
    "request = urllib.request.Request(",
    `    ${pythonText(address(base, call))},`,
    "    body.encode(),",
    `    {${headers.join(", ")}},`,
    ")",
    "with urllib.request.urlopen(request) as response:",
    "    print(json.dumps(json.load(response), indent=2))",
    "",
  ].join("\n");
}

// Of no part that a shell would read: a quote is the only one that URLs leave as it is.
function address(base, call) {
  return new URL(call.path, base).href.replaceAll("'", "%27");
}

// JSON's escapes are a part of Python's.
function pythonText(text) {
  return JSON.stringify(text);
}
