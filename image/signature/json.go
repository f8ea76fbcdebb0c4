package signature

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxJSON bounds the content of a signature partition, in bytes (systemd's VERITY_SIG_SIZE).
const MaxJSON = 4 << 20

// ParseJSON reads the content of a signature partition: a JSON object with rootHash in hex and signature in base64,
// and zeros behind it up to the end.
func ParseJSON(b []byte) (root, der []byte, err error) {
	if len(b) > MaxJSON {
		return nil, nil, fmt.Errorf("it has %d bytes, more than %d", len(b), MaxJSON)
	}
	text, padding, _ := bytes.Cut(b, []byte{0})
	if len(bytes.Trim(padding, "\x00")) > 0 {
		return nil, nil, errors.New("bytes follow the zeros behind its end")
	}
	fields, err := object(text)
	if err != nil {
		return nil, nil, err
	}
	if root, err = hex.DecodeString(fields["rootHash"]); err != nil {
		return nil, nil, fmt.Errorf("its rootHash is no hex: %w", err)
	}
	if der, err = base64.StdEncoding.Strict().DecodeString(fields["signature"]); err != nil {
		return nil, nil, fmt.Errorf("its signature is no base64: %w", err)
	}
	if len(root) == 0 || len(der) == 0 {
		return nil, nil, errors.New("it lacks rootHash or signature")
	}
	return root, der, nil
}

// object gives the strings of a JSON object. A name that is there twice is refused: readers would differ in which
// they take.
func object(text []byte) (map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	fields, seen := map[string]string{}, map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		name := t.(string) // Between braces the decoder takes nothing else.
		if seen[name] {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		if s, ok := value.(string); ok {
			fields[name] = s
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow its JSON object", len(rest))
	}
	return fields, nil
}
