"""Whether what was exported holds to the schema of its name.

    schemas.py ocsf FILE     events, one a line, against the OCSF 1.8.0 schema as a JSON Schema
    schemas.py oscal FILE    assessment results, against types made of NIST's JSON Schema

Prints what was checked; exits 1 and says where and why if something does not hold.
"""

import json
import re
import sys


def ocsf(path):
    from jsonschema import Draft202012Validator
    from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

    embedded = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.8.0"))
    validators = {}
    counts = {}
    wrong = []
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        event = json.loads(line)
        uid = event["class_uid"]
        if uid not in validators:
            name = embedded.lookup_class_name_from_uid(uid)
            schema = embedded.get_class_schema(name, event["metadata"]["profiles"])
            # Draft 2020-12 leaves what is not named alone; here it is a slip of ours.
            schema.setdefault("additionalProperties", False)
            for definition in schema.get("$defs", {}).values():
                if definition.get("properties"):
                    definition.setdefault("additionalProperties", False)
            validators[uid] = Draft202012Validator(schema)
        counts[uid] = counts.get(uid, 0) + 1
        for error in validators[uid].iter_errors(event):
            place = "/".join(str(part) for part in error.absolute_path)
            wrong.append(f"line {number}, class {uid}, {place}: {error.message[:300]}")
    return wrong, counts


def oscal(path):
    from oscal_bindings import parse_assessment_results

    text = open(path, encoding="utf-8").read()
    try:
        parse_assessment_results(text)
    except Exception as error:  # Of several kinds; what it says is what matters.
        return [str(error)], {}
    results = json.loads(text)["assessment-results"]["results"][0]
    known = {observation["uuid"] for observation in results["observations"]}
    wrong = []
    for finding in results.get("findings", []):
        for related in finding["related-observations"]:
            if related["observation-uuid"] not in known:
                wrong.append(f"{finding['title']}: an observation that is not there")
    uuids = re.findall(r'"uuid": "([^"]+)"', text)
    if len(uuids) != len(set(uuids)):
        wrong.append("two things have one uuid")
    return wrong, {"observations": len(known), "findings": len(results.get("findings", []))}


def main():
    kind, path = sys.argv[1:]
    wrong, counts = {"ocsf": ocsf, "oscal": oscal}[kind](path)
    print(json.dumps({str(key): count for key, count in sorted(counts.items())}))
    for what in wrong[:20]:
        print(what, file=sys.stderr)
    sys.exit(1 if wrong else 0)


main()
