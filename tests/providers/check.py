#!/usr/bin/env python3
"""Asks PyJWT about every sample: its signature by the keys of keys.json, its claims, and whether it is in time and has the issuer and the
audience of the recipe. What it says must be what samples.json has under `library`. Prints a line for each provider."""

import json
import pathlib
import sys

import jwt

HERE = pathlib.Path(__file__).parent
ALGORITHMS = ["RS256", "ES256"]


def said(token, keys, issuer, audience):
    """`ok` and the claims, or the name of the error."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        found = [key for key in keys.keys if kid in (None, key.key_id)]
        if not found:
            return "no such key", None
        options = {"require": ["exp", "iss"], "verify_aud": audience is not None}
        return "ok", jwt.decode(token, found[0], ALGORITHMS, options, issuer=issuer, audience=audience)
    except jwt.PyJWTError as error:
        return type(error).__name__, None


def main():
    folders = sorted(file.parent for file in HERE.glob("*/samples.json"))
    assert len(folders) >= 10, folders
    wrong = []
    for folder in folders:
        whole = json.loads((folder / "samples.json").read_text())
        keys = jwt.PyJWKSet.from_json((folder / "keys.json").read_text())
        for sample in whole["samples"]:
            name = f"{folder.name} {sample['name']}"
            answer, claims = said(sample["token"], keys, whole["issuer"], whole["audience"])
            if answer != sample["library"]:
                wrong.append(f"{name}: PyJWT says {answer}, samples.json {sample['library']}")
            if answer == "ok" and claims != sample["claims"]:
                wrong.append(f"{name}: other claims: {claims}")
            if "header" in sample and jwt.get_unverified_header(sample["token"]) != sample["header"]:
                wrong.append(f"{name}: another header")
            if sample["verdict"] == "permit" and answer != "ok":
                wrong.append(f"{name}: permitted, and PyJWT refuses it")
        print(f"ok {folder.name}: {len(whole['samples'])} samples")
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
