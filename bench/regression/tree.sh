# tree.sh: a copy of this tree to build something else in.  Sourced, from the root, by `proof` and `against`.

# copy_tree DIRECTORY: what git has or would add
copy_tree() {
    git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$1"
}

# build_tree DIRECTORY: the engine, in place; and make sure that it is what Python finds there
build_tree() (
    cd "$1"
    if ! "$PYTHON" setup.py -q build_clib build_ext --inplace >build.log 2>&1; then
        tail -n 60 build.log >&2
        exit 2
    fi
    found=$(PYTHONPATH=src "$PYTHON" -c 'import ntxengine._core.engine as e; print(e.__file__)')
    case $found in
        "$1"/*) ;;
        *)
            echo "not what was built is measured, but $found" >&2
            exit 2
            ;;
    esac
)
