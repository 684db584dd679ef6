# Usage: sh try_wheel.sh VENV RECIPE. Does in an empty folder, with the program that is installed in VENV, what a newcomer
# does, and runs the command of the image that RECIPE, a Dockerfile for serving, makes.
set -eu
bin="$1/bin"
recipe="$2"
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill -- "-$server"; rm -rf "$folder"' EXIT
cd "$folder"
export MLFLOW_DISABLE_TELEMETRY=true PATH="$bin:$PATH"
unset PYTHONPATH

facerec config list
facerec data demo data/orl
facerec train --config demo --set training.epochs=1 --register-as demo
facerec tune --study demo --dry-run --trials 2
facerec registry show demo

# The served model carries its code: it answers with the program and without it.
facerec data unpack data/orl faces > /dev/null
picture=$(find "$folder/faces" -name '*.jpg' | sort | head -n 1)
python - "$picture" << 'END'
import base64, json, pathlib, sys
text = base64.b64encode(pathlib.Path(sys.argv[1]).read_bytes()).decode()
json.dump({"dataframe_records": [{"image_a": text, "image_b": text}]}, open("pair.json", "w"))
END
ask() { mlflow models predict -m models:/demo@champion -i pair.json -t json --env-manager local 2> log.txt || { cat log.txt; exit 1; }; }
with=$(ask)
python -m pip --quiet uninstall --yes facerec
if python -c "import facerec" 2> /dev/null; then echo "facerec is still installed" && exit 1; fi
without=$(ask)
echo "$with"
test "$with" = "$without"

# What the image runs: its command, its check of health, and a signal to the group, as tini -g sends it.
python - "$recipe" << 'END'
import json, pathlib, re, sys
text = re.sub(r"\\\n\s*", "", pathlib.Path(sys.argv[1]).read_text())
pathlib.Path("serve.sh").write_text(json.loads(re.findall(r"^CMD (.*)", text, re.M)[-1])[2])
pathlib.Path("health.py").write_text(json.loads(re.findall(r"^HEALTHCHECK .*? CMD (.*)", text, re.M)[-1])[2])
END
export MODEL_URI=models:/demo@champion WORKERS=2
PORT=$(python -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
export PORT
setsid sh serve.sh > server.txt 2>&1 &
server=$!
tries=0
until python health.py 2> /dev/null; do
    tries=$((tries + 1))
    test "$tries" -lt 100 || { cat server.txt; exit 1; }
    sleep 3
done
python - << 'END'
import os, urllib.request
url = f"http://127.0.0.1:{os.environ['PORT']}/invocations"
request = urllib.request.Request(url, open("pair.json", "rb").read(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
END
kill -- "-$server"
wait "$server" || true
server=
if python health.py 2> /dev/null; then echo "the server has outlived its signal" && exit 1; fi
echo "the installed wheel and the command of the image work"
