# Usage: sh try_wheel.sh VENV. Does in an empty folder, with the program that is installed in VENV, what a newcomer does.
set -eu
bin="$1/bin"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
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
echo "the installed wheel works"
