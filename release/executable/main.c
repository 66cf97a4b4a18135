/* The executable `layerferry`: CPython, linked statically, whose modules are in a zip archive at its own end.
   Nothing of the machine's Python counts: no PYTHON variables, no site, no folder but the archive. */
#include <Python.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/auxv.h>

#define MODULE(name) PyMODINIT_FUNC PyInit_##name(void);
#include "modules.h"
#undef MODULE

/* Debian's config.c has the table of modules that libpython has; these are those that it has as files. */
static const struct _inittab more[] = {
#define MODULE(name) {#name, PyInit_##name},
#include "modules.h"
#undef MODULE
    {NULL, NULL},
};

/* Load a library for good, so that what is loaded later finds it by its soname: its path need not last. */
static PyObject *hold(PyObject *self, PyObject *args) {
  PyObject *path = NULL;
  (void)self;
  if (!PyArg_ParseTuple(args, "O&", PyUnicode_FSConverter, &path))
    return NULL;
  void *library = dlopen(PyBytes_AS_STRING(path), RTLD_NOW | RTLD_GLOBAL);
  Py_DECREF(path);
  if (library == NULL)
    return PyErr_Format(PyExc_ImportError, "%s", dlerror());
  Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"hold", hold, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_executable", NULL, -1, methods, NULL, NULL, NULL, NULL};

static PyObject *init_executable(void) { return PyModule_Create(&definition); }

/* Our own file; /proc may not be mounted in a chroot, where the kernel told how we were called. */
static const char *own_path(char *buffer) {
  if (realpath("/proc/self/exe", buffer) != NULL)
    return buffer;
  const char *called = (const char *)getauxval(AT_EXECFN);
  return called != NULL && realpath(called, buffer) != NULL ? buffer : NULL;
}

static PyStatus configure(PyConfig *config, int argc, char **argv, const char *path) {
  PyStatus status = PyConfig_SetBytesArgv(config, argc, argv);
  if (PyStatus_Exception(status))
    return status;
  wchar_t *own = Py_DecodeLocale(path, NULL);
  if (own == NULL)
    return PyStatus_NoMemory();
  wchar_t **const places[] = {&config->executable,      &config->base_executable, &config->program_name,
                              &config->run_filename,    &config->prefix,          &config->base_prefix,
                              &config->exec_prefix,     &config->base_exec_prefix};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    status = PyConfig_SetString(config, places[i], own);
    if (PyStatus_Exception(status))
      return status;
  }
  config->module_search_paths_set = 1;
  return PyWideStringList_Append(&config->module_search_paths, own);
}

int main(int argc, char **argv) {
  char buffer[PATH_MAX];
  const char *path = own_path(buffer);
  if (path == NULL) {
    fputs("layerferry: its own file cannot be found: start it by a path, or mount /proc\n", stderr);
    return 1;
  }
  PyPreConfig before;
  PyPreConfig_InitIsolatedConfig(&before);
  before.utf8_mode = 1; /* whatever the locale says, which a bare chroot does not have */
  PyStatus status = Py_PreInitialize(&before);
  if (PyStatus_Exception(status))
    Py_ExitStatusException(status);
  for (const struct _inittab *module = more; module->name != NULL; module++)
    if (PyImport_AppendInittab(module->name, module->initfunc) < 0)
      return 1;
  if (PyImport_AppendInittab("_executable", init_executable) < 0)
    return 1;
  PyConfig config;
  PyConfig_InitIsolatedConfig(&config);
  config.parse_argv = 0;
  config.site_import = 0;
  config.write_bytecode = 0;
  config.install_signal_handlers = 1;
  config.pathconfig_warnings = 0;
  status = configure(&config, argc, argv, path);
  if (!PyStatus_Exception(status))
    status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status))
    Py_ExitStatusException(status);
  return Py_RunMain();
}
